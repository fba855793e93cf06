//! Answers to watchers, with events that are encoded once for all of them.

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;

use crate::proto::session as pb;

/// One answer: everything but the events, and the events as they go out.
#[derive(Debug)]
pub(in crate::grpc) struct Answer {
    pub(super) head: pb::WatchSessionsResponse,
    /// Each with its tag and length in front.
    pub(super) events: Vec<Bytes>,
}

impl Answer {
    /// The same answer as a message.
    pub(in crate::grpc) fn into_message(self) -> Result<pb::WatchSessionsResponse, Status> {
        let mut bytes = self.head.encode_to_vec();
        self.events
            .iter()
            .for_each(|event| bytes.extend_from_slice(event));
        pb::WatchSessionsResponse::decode(&*bytes)
            .map_err(|_| super::super::status::internal().into())
    }
}

/// An event as it lies in an answer: a length-delimited field.
pub(super) fn encode_event(event: pb::Event) -> Bytes {
    let alone = pb::WatchSessionsResponse {
        events: vec![event],
        ..Default::default()
    };
    alone.encode_to_vec().into()
}

/// Decodes requests as usual; puts answers together from their parts.
#[derive(Debug, Default)]
pub(super) struct WatchCodec;

#[derive(Debug)]
pub(super) struct WatchEncoder;

impl Codec for WatchCodec {
    type Encode = Answer;
    type Decode = pb::WatchSessionsRequest;
    type Encoder = WatchEncoder;
    type Decoder =
        <ProstCodec<pb::WatchSessionsResponse, pb::WatchSessionsRequest> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        WatchEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<pb::WatchSessionsResponse, pb::WatchSessionsRequest>::default().decoder()
    }
}

impl Encoder for WatchEncoder {
    type Item = Answer;
    type Error = Status;

    fn encode(&mut self, item: Answer, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let length = item.head.encoded_len() + item.events.iter().map(Bytes::len).sum::<usize>();
        buf.reserve(length);
        item.head.encode_raw(buf);
        for event in item.events {
            buf.put_slice(&event);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, encode_event};
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
        let events = vec![encode_event(event(6)), encode_event(event(7))];
        let answer = Answer {
            head: head.clone(),
            events,
        };
        let whole = pb::WatchSessionsResponse {
            events: vec![event(6), event(7)],
            ..head
        };
        assert_eq!(answer.into_message().unwrap(), whole);
    }
}
