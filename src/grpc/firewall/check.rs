//! Decisions: one, or a stream of them.

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::Stream;
use tonic::{Status, Streaming, body::Body};

use super::{FirewallApi, actor, convert};
use crate::{
    grpc::{
        authorised::{LOOK_EVERY, is_accepted},
        caller::{Caller, Own},
        direct,
        outbox::Sent,
        status::{IntoRefusal, Refusal, handle_not_accepted, not_serving},
    },
    proto::firewall as pb,
    session::service::{Verdict, Wait},
};

/// Serves `CheckToolRequest`.
pub(in crate::grpc) fn serve(
    api: &FirewallApi,
    max_request: usize,
    caller: Caller,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Body>> {
    direct::unary(max_request, request, async move |request| {
        api.check_one(request, &caller).await
    })
}

impl FirewallApi {
    pub(super) async fn check_one(
        &self,
        request: pb::CheckToolRequestRequest,
        caller: &Caller,
    ) -> Result<pb::CheckToolRequestResponse, Refusal> {
        let verdict = self
            .check(caller, &request.session_id, request.tool)
            .await?;
        let verdict = Some(convert::verdict(&verdict));
        Ok(pb::CheckToolRequestResponse { verdict })
    }

    pub(super) async fn check(
        &self,
        caller: &Caller,
        session_id: &str,
        tool: Option<pb::ToolRequest>,
    ) -> Result<Verdict, Refusal> {
        let view = self.view(caller, session_id)?;
        let tool = convert::tool(tool)?;
        let sessions = &self.api.sessions;
        let verdict = sessions.check(&view, &tool, actor(caller), caller.wait());
        let name = view.session.id();
        verdict.await.map_err(|error| error.into_refusal(name))
    }

    /// Finds the caller's session anew: it may have ended, or changed.
    pub(super) fn reauthorise(&self, caller: &mut Caller) -> Result<(), Refusal> {
        let Some(own) = &caller.own else {
            return Ok(());
        };
        let view = self.api.sessions.use_handle(&own.digest);
        let view = view.ok_or_else(handle_not_accepted)?;
        caller.own = Some(Own {
            digest: own.digest,
            view: Some(view),
        });
        Ok(())
    }

    /// Whether the caller's handle is still good. Is no activity.
    pub(super) fn still_accepted(&self, caller: &Caller) -> bool {
        is_accepted(&self.api.sessions, caller)
    }
}

struct Verdicts {
    api: FirewallApi,
    caller: Caller,
    requests: Streaming<pb::CheckToolRequestsRequest>,
    look: Interval,
    over: bool,
}

/// The verdicts on a stream of requests, in order.
pub(super) fn verdicts(
    api: FirewallApi,
    caller: Caller,
    requests: Streaming<pb::CheckToolRequestsRequest>,
) -> impl Stream<Item = Result<pb::CheckToolRequestsResponse, Status>> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut verdicts = Verdicts {
        api,
        caller,
        requests,
        look,
        over: false,
    };
    Sent::by(|outbox| async move {
        while let Some(next) = verdicts.next().await {
            outbox.send(next).await;
        }
    })
}

impl Verdicts {
    async fn next(&mut self) -> Option<Result<pb::CheckToolRequestsResponse, Status>> {
        if self.over {
            return None;
        }
        let request = loop {
            tokio::select! {
                biased;
                request = self.requests.message() => break request,
                _ = self.look.tick() => {
                    if let Err(refusal) = self.look() {
                        self.over = true;
                        return Some(Err(refusal.into()));
                    }
                }
            }
        };
        let answer = match request {
            Ok(Some(request)) => self.answer(request).await,
            Ok(None) => return None,
            Err(status) => Err(status),
        };
        self.over |= answer.is_err();
        Some(answer)
    }

    fn look(&self) -> Result<(), Refusal> {
        if *self.api.api.draining.borrow() {
            return Err(not_serving());
        }
        if self.api.still_accepted(&self.caller) {
            Ok(())
        } else {
            Err(handle_not_accepted())
        }
    }

    async fn answer(
        &mut self,
        request: pb::CheckToolRequestsRequest,
    ) -> Result<pb::CheckToolRequestsResponse, Status> {
        self.api.reauthorise(&mut self.caller)?;
        let view = self.api.view(&self.caller, &request.session_id)?;
        let tool = convert::tool(request.tool)?;
        let wait = Wait {
            deadline: None,
            ..self.caller.wait()
        };
        let sessions = &self.api.api.sessions;
        let verdict = sessions
            .check(&view, &tool, actor(&self.caller), wait)
            .await;
        let verdict = verdict.map_err(|error| error.into_refusal(view.session.id()))?;
        self.over = verdict.ended && self.caller.own.is_some();
        Ok(pb::CheckToolRequestsResponse {
            verdict: Some(convert::verdict(&verdict)),
        })
    }
}
