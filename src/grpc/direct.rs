//! The shortest way of a call that answers once, for the calls that agents make
//! most.
//!
//! tonic prepares every call for a stream: two buffers of 8 KiB, a decoder and an
//! encoder behind pointers, and messages that are moved from one to the next. Here
//! one message is read, and one answer goes out as it was encoded. Refusals are
//! those that the dispatcher makes of tonic's errors.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::{Status, body::Body};

use crate::reason::Reason;

use super::{answer::MAX_ANSWER, dispatch::reason_for, status::Refusal};

/// Bytes in front of a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Answers a call with what `handle` makes of its message, which has at most
/// `max_request` bytes. What `handle` does before it returns its future takes no
/// room in the call's.
pub(crate) fn unary<B, Q, F, A>(
    max_request: usize,
    request: Request<B>,
    handle: impl FnOnce(Q) -> F,
) -> impl Future<Output = Response<Body>>
where
    B: HttpBody<Data = Bytes, Error: Into<tonic::codegen::StdError>>,
    Q: Message + Default,
    F: Future<Output = Result<A, Refusal>>,
    A: Message,
{
    let (head, body) = request.into_parts();
    let is_plain = is_plain(&head.headers);
    drop(head);
    async move {
        match answer(max_request, is_plain, body, handle).await {
            Ok(data) => respond(data),
            Err(refusal) => refusal.into_http(),
        }
    }
}

async fn answer<B, Q, F, A>(
    max: usize,
    is_plain: bool,
    body: B,
    handle: impl FnOnce(Q) -> F,
) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes, Error: Into<tonic::codegen::StdError>>,
    Q: Message + Default,
    F: Future<Output = Result<A, Refusal>>,
    A: Message,
{
    if !is_plain {
        return Err(malformed("compressed messages are not accepted"));
    }
    let message = read(max, body).await?;
    let answered = handle(Q::decode(message).map_err(|_| undecodable())?);
    frame(&answered.await?)
}

/// Whether the message of a call comes as it is.
fn is_plain(headers: &HeaderMap) -> bool {
    let encoding = headers.get("grpc-encoding");
    encoding.is_none_or(|encoding| encoding == "identity")
}

/// The one message of a call, not decoded yet.
async fn read(
    max: usize,
    body: impl HttpBody<Data = Bytes, Error: Into<tonic::codegen::StdError>>,
) -> Result<Bytes, Refusal> {
    let mut body = pin!(body);
    let mut whole = Bytes::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(|error| reason_for(&Status::from_error(error.into())))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        whole = joined(whole, data);
        if length(&whole).is_some_and(|length| length > max) || whole.len() > max + HEAD {
            let message = "the message is over the limit of this socket";
            return Err(Refusal::new(Reason::MessageTooLarge, message));
        }
    }
    if whole.is_empty() {
        return Err(malformed("the call has no message"));
    }
    let is_one = length(&whole) == Some(whole.len() - HEAD.min(whole.len()));
    if !is_one || whole[0] != 0 {
        return Err(undecodable());
    }
    whole.advance(HEAD);
    Ok(whole)
}

/// Nearly always there is nothing to join: a message comes in one frame.
fn joined(before: Bytes, data: Bytes) -> Bytes {
    if before.is_empty() {
        return data;
    }
    let mut both = BytesMut::from(before);
    both.extend_from_slice(&data);
    both.freeze()
}

/// What the head of a message says that follows it; none: the head is not whole.
fn length(message: &[u8]) -> Option<usize> {
    let head = message.first_chunk::<HEAD>()?;
    let [_, length @ ..] = *head;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

fn malformed(message: &'static str) -> Refusal {
    Refusal::new(Reason::MalformedMessage, message)
}

fn undecodable() -> Refusal {
    malformed("the message cannot be decoded")
}

/// A message as it goes out.
fn frame(answer: &impl Message) -> Result<Bytes, Refusal> {
    let length = answer.encoded_len();
    let short = u32::try_from(length).ok().filter(|_| length <= MAX_ANSWER);
    let Some(short) = short else {
        let message = "the answer is over 4 MiB; a change that it tells of has happened";
        return Err(Refusal::new(Reason::MessageTooLarge, message));
    };
    let mut data = BytesMut::with_capacity(HEAD + length);
    data.put_u8(0);
    data.put_u32(short);
    answer.encode_raw(&mut data);
    Ok(data.freeze())
}

fn respond(data: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Whole::Data(data)));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The body of an answer: its message, and that all is well.
enum Whole {
    Data(Bytes),
    Trailers,
    Sent,
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match std::mem::replace(&mut *self, Self::Sent) {
            Self::Data(data) => {
                *self = Self::Trailers;
                Frame::data(data)
            }
            Self::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Frame::trailers(trailers)
            }
            Self::Sent => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Sent)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::pin};

    use bytes::Bytes;
    use http::HeaderMap;
    use http_body::{Body as _, Frame};
    use http_body_util::{BodyExt as _, StreamBody};
    use prost::Message as _;

    use super::{HEAD, answer, frame, is_plain, respond};
    use crate::{proto::session as pb, reason::Reason};

    const MAX: usize = 64;

    fn message() -> pb::GetSessionRequest {
        pb::GetSessionRequest {
            session_id: "episode-7".into(),
        }
    }

    async fn sent(
        parts: &[&[u8]],
        encoding: Option<&str>,
    ) -> Result<pb::GetSessionRequest, Reason> {
        let frames: Vec<_> = parts
            .iter()
            .map(|part| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        let body = StreamBody::new(tokio_stream::iter(frames));
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert("grpc-encoding", encoding.parse().unwrap());
        }
        let echo = |message: pb::GetSessionRequest| std::future::ready(Ok(message));
        match answer(MAX, is_plain(&headers), body, echo).await {
            Ok(sent) => Ok(pb::GetSessionRequest::decode(&sent[HEAD..]).unwrap()),
            Err(refusal) => Err(refusal.reason()),
        }
    }

    #[tokio::test]
    async fn a_message_is_read_however_it_is_cut() {
        let whole = frame(&message()).unwrap();
        for at in 0..=whole.len() {
            let (first, rest) = whole.split_at(at);
            let read = sent(&[first, rest], Some("identity")).await;
            assert_eq!(read, Ok(message()), "cut at {at}");
        }
    }

    #[tokio::test]
    async fn what_is_not_one_whole_message_is_refused() {
        let whole = frame(&message()).unwrap();
        let twice = [whole.as_ref(), whole.as_ref()].concat();
        let mut compressed = whole.to_vec();
        compressed[0] = 1;
        let mut wrong_wire_type = whole.to_vec();
        wrong_wire_type[5] = 0x0b;
        for bad in [
            &[][..],
            &[0],
            &whole[..4],
            &whole[..whole.len() - 1],
            &twice,
            &compressed,
            &wrong_wire_type,
        ] {
            assert_eq!(
                sent(&[bad], None).await,
                Err(Reason::MalformedMessage),
                "{bad:?}"
            );
        }
        let gzip = sent(&[&whole], Some("gzip")).await;
        assert_eq!(gzip, Err(Reason::MalformedMessage));
    }

    #[tokio::test]
    async fn a_message_is_refused_as_too_large_before_it_has_come() {
        let fits = [&[0, 0, 0, 0, 64][..], &[0x7a, 62], &[0; 62]].concat();
        assert_eq!(
            sent(&[&fits], None).await,
            Ok(pb::GetSessionRequest::default())
        );
        let announced = sent(&[&[0, 0, 0, 0, 65]], None).await;
        assert_eq!(announced, Err(Reason::MessageTooLarge));
        let more = sent(&[&[0; 70]], None).await;
        assert_eq!(more, Err(Reason::MessageTooLarge));
    }

    #[tokio::test]
    async fn an_answer_is_a_message_and_trailers() {
        let mut body = pin!(respond(frame(&message()).unwrap()).into_body());
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data[..5], [0, 0, 0, 0, 11]);
        assert_eq!(pb::GetSessionRequest::decode(&data[5..]), Ok(message()));
        assert!(!body.is_end_stream());
        let trailers = body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
