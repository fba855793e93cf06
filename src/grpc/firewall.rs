//! `episoded.firewall.v1.FirewallService`.

mod check;
mod held;
mod listing;
mod manifests;
mod read;
mod refinements;
mod watch;

use std::{pin::Pin, sync::Arc};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    proto::firewall::{self as pb, firewall_service_server::FirewallService},
    session::{batch::Target, error::TargetError, index::View, state::Actor},
};

use super::{
    caller::Caller,
    convert::firewall as convert,
    session::SessionApi,
    status::{IntoRefusal, Refusal, no_session},
};
use read::Reads;

pub(super) use check::serve as check;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct FirewallApi {
    pub(super) api: SessionApi,
    reads: Arc<Reads>,
}

impl FirewallApi {
    /// Serves the firewalls of these sessions; in a runtime.
    pub fn new(api: SessionApi) -> Self {
        let reads = Arc::default();
        read::close_roots_of_ended(&reads, &api.sessions);
        Self { api, reads }
    }

    /// The live session a call is about.
    fn view(&self, caller: &Caller, session_id: &str) -> Result<View, Refusal> {
        let id = match caller.target(session_id)? {
            Target::Own(_) => return caller.own_view().cloned(),
            Target::Named(id) => id,
        };
        let view = self.api.sessions.by_id(&id);
        let view = view.ok_or_else(|| no_session(id.as_str()))?;
        if view.session.is_active() {
            return Ok(view);
        }
        Err(TargetError::Terminated(view.session).into_refusal(id.as_str()))
    }
}

fn actor(caller: &Caller) -> Actor {
    caller.unnamed().actor
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl FirewallService for FirewallApi {
    async fn check_tool_request(
        &self,
        request: Request<pb::CheckToolRequestRequest>,
    ) -> Result<Response<pb::CheckToolRequestResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        Ok(Response::new(
            self.check_one(request.into_inner(), &caller).await?,
        ))
    }

    type CheckToolRequestsStream = Answers<pb::CheckToolRequestsResponse>;

    async fn check_tool_requests(
        &self,
        request: Request<Streaming<pb::CheckToolRequestsRequest>>,
    ) -> Result<Response<Self::CheckToolRequestsStream>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let verdicts = check::verdicts(self.clone(), caller, request.into_inner());
        Ok(Response::new(Box::pin(verdicts)))
    }

    type ReadFileStream = Answers<pb::ReadFileResponse>;

    async fn read_file(
        &self,
        request: Request<pb::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let parts = self.read(caller, request.into_inner()).await?;
        Ok(Response::new(Box::pin(parts)))
    }

    async fn list_allowed(
        &self,
        request: Request<pb::ListAllowedRequest>,
    ) -> Result<Response<pb::ListAllowedResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let page = self.allowed(&caller, &request.into_inner())?;
        Ok(Response::new(page))
    }

    async fn get_manifest(
        &self,
        request: Request<pb::GetManifestRequest>,
    ) -> Result<Response<pb::GetManifestResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let page = self.manifest_page(&caller, &request.into_inner())?;
        Ok(Response::new(page))
    }

    async fn explain_request(
        &self,
        request: Request<pb::ExplainRequestRequest>,
    ) -> Result<Response<pb::ExplainRequestResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let request = request.into_inner();
        let view = self.view(&caller, &request.session_id)?;
        let tool = convert::tool(request.tool)?;
        let verdict = self.api.sessions.explain(&view, &tool);
        let verdict = verdict.map_err(|error| error.into_refusal(view.session.id()))?;
        Ok(Response::new(pb::ExplainRequestResponse {
            verdict: Some(convert::verdict(&verdict)),
        }))
    }

    async fn put_manifest(
        &self,
        request: Request<Streaming<pb::PutManifestRequest>>,
    ) -> Result<Response<pb::PutManifestResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        Ok(Response::new(
            self.put(&caller, request.into_inner()).await?,
        ))
    }

    async fn list_refinements(
        &self,
        request: Request<pb::ListRefinementsRequest>,
    ) -> Result<Response<pb::ListRefinementsResponse>, Status> {
        Ok(Response::new(self.refinement_page(&request.into_inner())?))
    }

    type WatchRefinementsStream = Answers<pb::WatchRefinementsResponse>;

    async fn watch_refinements(
        &self,
        request: Request<pb::WatchRefinementsRequest>,
    ) -> Result<Response<Self::WatchRefinementsStream>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let answers = watch::begin(&self.api, &caller, request.into_inner())?;
        Ok(Response::new(Box::pin(answers)))
    }

    async fn reissue_context(
        &self,
        request: Request<pb::ReissueContextRequest>,
    ) -> Result<Response<pb::ReissueContextResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let answer = self.reissue(&caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn decline_refinement(
        &self,
        request: Request<pb::DeclineRefinementRequest>,
    ) -> Result<Response<pb::DeclineRefinementResponse>, Status> {
        let caller = Caller::of(request.extensions())?.clone();
        let answer = self.decline(&caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}
