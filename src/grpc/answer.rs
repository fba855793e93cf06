//! The body of an answer, on its way out.
//!
//! Errors that tonic finds while it encodes an answer, or reads a stream of
//! requests, come in the trailers and without a reason: they get theirs here.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};

use super::dispatch::reason_for;

/// Bytes of an answer: what clients accept unless they are told otherwise.
pub const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Bytes of sessions or events that are put into one answer of many, well below
/// the largest.
pub(super) const MAX_PART: usize = 1024 * 1024;

/// See the module.
pub struct AnswerBody(Body);

impl From<Body> for AnswerBody {
    fn from(body: Body) -> Self {
        Self(body)
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(with_reason)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

fn with_reason(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.trailers_ref().and_then(bare) {
        Some(status) => Frame::trailers(trailers(&reason_for(&status).into())),
        None => frame,
    }
}

/// An error without a reason, if these headers hold one.
pub(super) fn bare(headers: &HeaderMap) -> Option<Status> {
    let failed = headers.get("grpc-status").is_some_and(|code| code != "0");
    if !failed || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    Status::from_header_map(headers)
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Cannot fail: the message and the details are ours, and are escaped.
    let _ = status.add_header(&mut trailers);
    trailers
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use http_body::Frame;
    use tonic::{Code, Status};
    use tonic_types::StatusExt as _;

    use super::{trailers, with_reason};
    use crate::{grpc::status, reason::Reason};

    fn passed(status: &Status) -> Status {
        let frame = with_reason(Frame::trailers(trailers(status)));
        Status::from_header_map(frame.trailers_ref().unwrap()).unwrap()
    }

    #[test]
    fn an_answer_that_cannot_be_encoded_gets_its_reason() {
        let bare = Status::out_of_range("Error, encoded message length too large: found 9 bytes");
        let told = passed(&bare);
        assert_eq!(told.code(), Code::ResourceExhausted);
        let info = told.get_details_error_info().unwrap();
        assert_eq!(info.reason, Reason::MessageTooLarge.as_str());
        assert!(told.message().contains("answer"), "{told:?}");
    }

    #[test]
    fn what_is_no_error_or_has_its_reason_passes_as_it_is() {
        let refused = Status::from(status::busy());
        let told = passed(&refused);
        assert_eq!(told.details(), refused.details());
        let mut ok = HeaderMap::new();
        ok.insert("grpc-status", "0".parse().unwrap());
        let frame = with_reason(Frame::trailers(ok.clone()));
        assert_eq!(frame.trailers_ref(), Some(&ok));
        let data = with_reason(Frame::data(Bytes::from_static(b"x")));
        assert_eq!(data.data_ref().unwrap(), &Bytes::from_static(b"x"));
    }
}
