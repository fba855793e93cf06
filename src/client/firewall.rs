//! The calls of `episoded.firewall.v1.FirewallService`.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Client, ClientError, Stream};
use crate::proto::firewall as pb;
use crate::proto::firewall::firewall_service_client::FirewallServiceClient;
use crate::proto::manifest::Manifest;

/// Entries sent in one message of a manifest: well below a message's limit.
const ENTRIES_A_PART: usize = 2000;

/// Requests on their way at once in a stream of checks.
const CHECKS_AHEAD: usize = 64;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: pb::$request) -> Result<pb::$answer, ClientError> {
                    let mut service = FirewallServiceClient::new(self.channel.clone());
                    self.answer(service.$name(self.unary(request)).await)
                }
            )*
        }
    };
}

calls! {
    /// Decides one request.
    check_tool_request(CheckToolRequestRequest) -> CheckToolRequestResponse;
    /// How a request would be decided; counts as no attempt.
    explain_request(ExplainRequestRequest) -> ExplainRequestResponse;
    /// One page of what a listing may show.
    list_allowed(ListAllowedRequest) -> ListAllowedResponse;
    /// One page of a manifest; [`Client::whole_manifest`] has all of it.
    get_manifest(GetManifestRequest) -> GetManifestResponse;
    /// One page of refinements.
    list_refinements(ListRefinementsRequest) -> ListRefinementsResponse;
    /// Answers a refinement; take the handle out with [`super::Handle::take`].
    reissue_context(ReissueContextRequest) -> ReissueContextResponse;
    /// Refuses a refinement.
    decline_refinement(DeclineRefinementRequest) -> DeclineRefinementResponse;
}

impl Client {
    /// Opens a verified read.
    pub async fn read_file(
        &self,
        request: pb::ReadFileRequest,
    ) -> Result<Stream<pb::ReadFileResponse>, ClientError> {
        let mut service = FirewallServiceClient::new(self.channel.clone());
        self.opened(service.read_file(self.open(request))).await
    }

    /// Opens a watch of refinements.
    pub async fn watch_refinements(
        &self,
        request: pb::WatchRefinementsRequest,
    ) -> Result<Stream<pb::WatchRefinementsResponse>, ClientError> {
        let mut service = FirewallServiceClient::new(self.channel.clone());
        self.opened(service.watch_refinements(self.open(request)))
            .await
    }

    /// Opens a stream of checks: what is sent is decided in order.
    pub async fn check_tool_requests(&self) -> Result<Checks, ClientError> {
        let (requests, receiver) = mpsc::channel(CHECKS_AHEAD);
        let mut service = FirewallServiceClient::new(self.channel.clone());
        let request = self.open(ReceiverStream::new(receiver));
        let verdicts = self.opened(service.check_tool_requests(request)).await?;
        Ok(Checks { requests, verdicts })
    }

    /// Stores a manifest, in as many messages as it takes.
    pub async fn put_manifest(
        &self,
        mut manifest: Manifest,
    ) -> Result<pb::PutManifestResponse, ClientError> {
        let entries = std::mem::take(&mut manifest.entries);
        let mut parts = vec![manifest];
        parts.extend(entries.chunks(ENTRIES_A_PART).map(|entries| Manifest {
            entries: entries.to_vec(),
            ..Manifest::default()
        }));
        let parts = parts
            .into_iter()
            .map(|part| pb::PutManifestRequest { part: Some(part) });
        let parts = tokio_stream::iter(parts.collect::<Vec<_>>());
        let mut service = FirewallServiceClient::new(self.channel.clone());
        self.answer(service.put_manifest(self.unary(parts)).await)
    }

    /// All of a manifest.
    pub async fn whole_manifest(
        &self,
        mut request: pb::GetManifestRequest,
    ) -> Result<Manifest, ClientError> {
        let mut whole: Option<Manifest> = None;
        loop {
            let page = self.get_manifest(request.clone()).await?;
            let part = page.manifest.unwrap_or_default();
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => whole.entries.extend(part.entries),
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return Ok(whole.unwrap_or_default());
            }
        }
    }
}

/// A stream of checks.
#[derive(Debug)]
pub struct Checks {
    requests: mpsc::Sender<pb::CheckToolRequestsRequest>,
    verdicts: Stream<pb::CheckToolRequestsResponse>,
}

impl Checks {
    /// Sends a request; false when the stream has ended.
    pub async fn send(&self, request: pb::CheckToolRequestsRequest) -> bool {
        self.requests.send(request).await.is_ok()
    }

    /// The next verdict; `None` when the stream has ended in order.
    pub async fn next(&mut self) -> Result<Option<pb::Verdict>, ClientError> {
        let answer = self.verdicts.next().await?;
        Ok(answer.and_then(|answer| answer.verdict))
    }
}
