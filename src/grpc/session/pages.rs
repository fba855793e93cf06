//! Pages of sessions and of past events.

use crate::{
    grpc::{
        answer::MAX_PART,
        convert::{filter, request},
        status::{IntoRefusal, Refusal, Violations},
        token::{self, Position},
    },
    proto::session as pb,
    session::{
        filter::EventFilter,
        state::{Revision, Seq},
    },
};

use super::SessionApi;

impl SessionApi {
    pub(super) fn list(
        &self,
        request: pb::ListSessionsRequest,
    ) -> Result<pb::ListSessionsResponse, Refusal> {
        let mut bad = Violations::default();
        let registry = self.sessions.registry_id();
        let wire = request.filter.unwrap_or_default();
        let seal = prost::Message::encode_to_vec(&wire);
        let limit = request::page_size(request.page_size, &mut bad);
        let Some(filter) = filter::filter(wire, &mut bad).filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let at = match request.page_token.as_str() {
            "" => Position {
                first_revision: self.sessions.revision().0,
                last: 0,
            },
            token => token::open("sessions", registry, &seal, token)?,
        };
        let page = self.sessions.list(&filter, Seq(at.last), limit);
        let mut next = page.next;
        let mut bytes = 0;
        let mut sessions = Vec::with_capacity(page.views.len());
        let shower = self.shower();
        for view in &page.views {
            let shown = shower.session(view);
            bytes += prost::Message::encoded_len(&shown);
            if bytes > MAX_PART && !sessions.is_empty() {
                next = Some(Seq(view.session.seq.0 - 1));
                break;
            }
            sessions.push(shown);
        }
        let seal_next = |last: Seq| {
            let at = Position { last: last.0, ..at };
            token::seal("sessions", registry, &seal, at)
        };
        Ok(pb::ListSessionsResponse {
            sessions,
            next_page_token: next.map(seal_next).unwrap_or_default(),
            revision: at.first_revision,
            registry_id: self.registry_id(),
            node: self.node(),
        })
    }

    pub(super) async fn events(
        &self,
        request: pb::ListEventsRequest,
    ) -> Result<pb::ListEventsResponse, Refusal> {
        let mut bad = Violations::default();
        let registry = self.sessions.registry_id();
        let seal = request
            .filter
            .as_ref()
            .map(prost::Message::encode_to_vec)
            .unwrap_or_default();
        let limit = request::page_size(request.page_size, &mut bad);
        let filter: Option<EventFilter> = filter::event_filter(request.filter, &mut bad);
        let Some(filter) = filter.filter(|_| bad.is_empty()) else {
            return Err(bad.into_refusal());
        };
        let at = match request.page_token.as_str() {
            "" => {
                let newest = self.sessions.revision().0;
                Position {
                    first_revision: newest,
                    last: newest + 1,
                }
            }
            token => token::open("events", registry, &seal, token)?,
        };
        let page = self
            .sessions
            .history(filter, Revision(at.last), limit)
            .await;
        let page = page.map_err(|error| error.into_refusal(""))?;
        let mut next = page.next;
        let mut bytes = 0;
        let mut events = Vec::with_capacity(page.events.len());
        let shower = self.shower();
        for event in &page.events {
            let shown = shower.event(event);
            bytes += prost::Message::encoded_len(&shown);
            if bytes > MAX_PART && !events.is_empty() {
                next = Some(Revision(event.revision.0 + 1));
                break;
            }
            events.push(shown);
        }
        let seal_next = |last: Revision| {
            let at = Position { last: last.0, ..at };
            token::seal("events", registry, &seal, at)
        };
        Ok(pb::ListEventsResponse {
            events,
            next_page_token: next.map(seal_next).unwrap_or_default(),
            registry_id: self.registry_id(),
            node: self.node(),
        })
    }
}
