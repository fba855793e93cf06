//! Refinements: listed, answered, refused.

use std::sync::Arc;

use super::{FirewallApi, convert};
use crate::{
    firewall::manifest::Manifest,
    grpc::{
        answer::MAX_PART,
        caller::Caller,
        convert::{fields, request},
        status::{IntoRefusal, Refusal, Violations},
        token::{self, Position},
    },
    ids::SessionId,
    proto::{firewall as pb, manifests, session as session_pb},
    reason::Reason,
    secret::Handle,
    session::{
        error::{ManifestError, RefinementError},
        limits::{MAX_DETAIL_BYTES, MAX_SCAN},
        operation::{
            manifest::Context,
            reissue::{Decline, Reissue},
        },
        refinement::{Refinement, RefinementId, RefinementState},
    },
};

/// What a caller wants to see.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    state: Option<session_pb::RefinementState>,
    work: String,
    session: String,
}

impl Filter {
    pub(super) fn parse(wire: Option<pb::RefinementFilter>, bad: &mut Violations) -> Self {
        use session_pb::RefinementState as Wire;
        let wire = wire.unwrap_or_default();
        let state = match Wire::try_from(wire.state) {
            Ok(Wire::Unspecified) => None,
            Ok(state) => Some(state),
            Err(_) => {
                let rule = "must be a state of refinements";
                bad.add(Reason::MalformedMessage, "filter.state", rule);
                None
            }
        };
        Self {
            state,
            work: wire.work_id,
            session: wire.session_id,
        }
    }

    pub(super) fn matches(&self, refinement: &Refinement) -> bool {
        use session_pb::RefinementState as Wire;
        let state = match &refinement.state {
            RefinementState::Pending => Wire::Pending,
            RefinementState::Answered(_) => Wire::Answered,
            RefinementState::Declined(_) => Wire::Declined,
            RefinementState::Expired => Wire::Expired,
        };
        let session = &refinement.session;
        self.state.is_none_or(|wanted| wanted == state)
            && (self.work.is_empty() || self.work == session.work_id())
            && (self.session.is_empty() || self.session == session.id())
    }
}

impl FirewallApi {
    pub(super) fn refinement_page(
        &self,
        wire: &pb::ListRefinementsRequest,
    ) -> Result<pb::ListRefinementsResponse, Refusal> {
        let mut bad = Violations::default();
        let limit = request::page_size(wire.page_size, &mut bad);
        let seal = wire.filter.as_ref().map(prost::Message::encode_to_vec);
        let seal = seal.unwrap_or_default();
        let filter = Filter::parse(wire.filter.clone(), &mut bad);
        if !bad.is_empty() {
            return Err(bad.into_refusal());
        }
        let registry = self.api.sessions.registry_id();
        let at = match wire.page_token.as_str() {
            "" => Position {
                first_revision: self.api.sessions.revision().0,
                last: 0,
            },
            token => token::open("refinements", registry, &seal, token)?,
        };
        let refinements = self.api.sessions.refinements();
        let mut looked_at = refinements.after(RefinementId(at.last), MAX_SCAN);
        let mut shown: Vec<session_pb::Refinement> = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        let more = looked_at.len() == MAX_SCAN;
        for refinement in looked_at.drain(..) {
            if shown.len() == limit || bytes > MAX_PART {
                last = last.or(Some(at.last));
                break;
            }
            last = Some(refinement.id.0);
            if filter.matches(&refinement) {
                let refinement = convert::refinement(&refinement);
                bytes += prost::Message::encoded_len(&refinement);
                shown.push(refinement);
            }
        }
        let full = shown.len() == limit || bytes > MAX_PART;
        let next = last.filter(|_| full || more).map(|last| {
            let at = Position { last, ..at };
            token::seal("refinements", registry, &seal, at)
        });
        Ok(pb::ListRefinementsResponse {
            refinements: shown,
            next_page_token: next.unwrap_or_default(),
            revision: at.first_revision,
            registry_id: self.api.registry_id(),
            node: self.api.node(),
        })
    }

    fn find(&self, text: &str) -> Result<Arc<Refinement>, Refusal> {
        let id = RefinementId::parse(text);
        let found = id.and_then(|id| self.api.sessions.refinement(id));
        found.ok_or_else(|| RefinementError::NotFound.into_refusal(text))
    }

    pub(super) async fn reissue(
        &self,
        caller: &Caller,
        wire: pb::ReissueContextRequest,
    ) -> Result<pb::ReissueContextResponse, Refusal> {
        let mut bad = Violations::default();
        let sessions = &self.api.sessions;
        let request_id = fields::request_id(&wire.request_id, &mut bad);
        let body = request_id
            .as_ref()
            .map_or([0; 16], |_| request::body_of(sessions, &wire));
        let session_id = match wire.session_id.as_str() {
            "" => Some(SessionId::random()),
            text => fields::session_id("session_id", text, &mut bad),
        };
        let refinement = self.find(&wire.refinement_id)?;
        let context = self.context(&refinement, wire.context, &mut bad)?;
        let parsed = session_id.zip(context).filter(|_| bad.is_empty());
        let Some((session_id, context)) = parsed else {
            return Err(bad.into_refusal());
        };
        let handle = Handle::random();
        let digest = sessions.digest_handle(&handle);
        let reissue = Reissue {
            id: refinement.id,
            context,
            session_id,
            handle,
            digest,
            call: caller.call(request_id, || body),
        };
        let done = sessions.call(reissue, caller.wait()).await;
        let done = done.map_err(|error| error.into_refusal(&wire.refinement_id))?;
        let shower = self.api.shower();
        Ok(pb::ReissueContextResponse {
            session: Some(shower.session_with(&done.view, done.handle.as_ref())),
            refinement: Some(convert::refinement(&done.refinement)),
            revision: sessions.revision().0,
            handle_withheld: done.handle.is_none(),
        })
    }

    /// The manifest that the successor is bound to.
    fn context(
        &self,
        refinement: &Refinement,
        wire: Option<pb::reissue_context_request::Context>,
        bad: &mut Violations,
    ) -> Result<Option<Context>, Refusal> {
        use pb::reissue_context_request::Context as Wire;
        match wire {
            None => {
                let rule = "must be given: manifest_hash or additions";
                bad.add(Reason::MalformedMessage, "context", rule);
                Ok(None)
            }
            Some(Wire::ManifestHash(bytes)) => {
                let hash = convert::manifest_hash("manifest_hash", &bytes, bad);
                Ok(hash.map(Context::Stored))
            }
            Some(Wire::Additions(additions)) => {
                let base = self.api.sessions.manifest(&refinement.manifest.hash);
                let base = base.ok_or_else(|| ManifestError::NotFound.into_refusal(""))?;
                let built = self.with_additions(&base, additions, bad);
                Ok(built.map(|manifest| Context::New(Arc::new(manifest))))
            }
        }
    }

    fn with_additions(
        &self,
        base: &Manifest,
        additions: pb::Additions,
        bad: &mut Violations,
    ) -> Option<Manifest> {
        if additions.entries.is_empty() && additions.trees.is_empty() {
            bad.add(Reason::MalformedMessage, "additions", "must not be empty");
            return None;
        }
        let (entries, trees, faults) = manifests::additions(additions.entries, additions.trees);
        convert::note_faults("additions.", faults, bad);
        if !bad.is_empty() {
            return None;
        }
        let draft = base.draft().with(entries, trees);
        match draft.build(self.api.sessions.limits().max_manifest_entries) {
            Ok(manifest) => Some(manifest),
            Err(faults) => {
                convert::note_faults("refined manifest: ", faults, bad);
                None
            }
        }
    }

    pub(super) async fn decline(
        &self,
        caller: &Caller,
        wire: pb::DeclineRefinementRequest,
    ) -> Result<pb::DeclineRefinementResponse, Refusal> {
        if wire.reason.len() > MAX_DETAIL_BYTES || wire.reason.chars().any(char::is_control) {
            let mut bad = Violations::default();
            let rule = "must be at most 256 bytes without control characters";
            bad.add(Reason::MalformedMessage, "reason", rule);
            return Err(bad.into_refusal());
        }
        let refinement = self.find(&wire.refinement_id)?;
        let decline = Decline {
            id: refinement.id,
            reason: wire.reason.into(),
            call: caller.unnamed(),
        };
        let declined = self.api.sessions.call(decline, caller.wait()).await;
        let declined = declined.map_err(|error| error.into_refusal(&wire.refinement_id))?;
        Ok(pb::DeclineRefinementResponse {
            refinement: Some(convert::refinement(&declined)),
        })
    }
}
