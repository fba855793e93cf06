//! Answers that are put together from parts that are encoded already.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;

/// One answer: a message, and fields of the same message as they go out.
#[derive(Debug)]
pub(super) struct Answer<M> {
    /// What is encoded with the answer.
    pub(super) head: M,
    /// Each a whole number of fields, with their tags and lengths.
    pub(super) fields: Vec<Bytes>,
}

impl<M: Message + Default> Answer<M> {
    /// The same answer as a message.
    pub(super) fn into_message(self) -> Result<M, Status> {
        let mut bytes = self.head.encode_to_vec();
        self.fields
            .iter()
            .for_each(|field| bytes.extend_from_slice(field));
        M::decode(&*bytes).map_err(|_| super::status::internal().into())
    }
}

/// Decodes requests `Q` as usual; puts answers `M` together from their parts.
#[derive(Debug)]
pub(super) struct PartsCodec<Q, M>(PhantomData<(Q, M)>);

impl<Q, M> Default for PartsCodec<Q, M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

#[derive(Debug)]
pub(super) struct PartsEncoder<M>(PhantomData<M>);

impl<Q, M> Codec for PartsCodec<Q, M>
where
    Q: Message + Default + Send + 'static,
    M: Message + Default + Send + 'static,
{
    type Encode = Answer<M>;
    type Decode = Q;
    type Encoder = PartsEncoder<M>;
    type Decoder = <ProstCodec<M, Q> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        PartsEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<M, Q>::default().decoder()
    }
}

impl<M: Message> Encoder for PartsEncoder<M> {
    type Item = Answer<M>;
    type Error = Status;

    fn encode(&mut self, item: Answer<M>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let length = item.head.encoded_len() + item.fields.iter().map(Bytes::len).sum::<usize>();
        buf.reserve(length);
        item.head.encode_raw(buf);
        for field in item.fields {
            buf.put_slice(&field);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::Answer;
    use crate::proto::session as pb;

    #[test]
    fn an_answer_in_parts_is_the_same_message() {
        let event = |revision| pb::Event {
            revision,
            node: "n".into(),
            ..Default::default()
        };
        let head = pb::WatchSessionsResponse {
            through: 7,
            ..Default::default()
        };
        let field = |revision| {
            let alone = pb::WatchSessionsResponse {
                events: vec![event(revision)],
                ..Default::default()
            };
            alone.encode_to_vec().into()
        };
        let answer = Answer {
            head: head.clone(),
            fields: vec![field(6), field(7)],
        };
        let whole = pb::WatchSessionsResponse {
            events: vec![event(6), event(7)],
            ..head
        };
        assert_eq!(answer.into_message().unwrap(), whole);
    }
}
