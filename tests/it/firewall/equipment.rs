//! Sessions with a firewall, and requests to it.

use episoded::proto::firewall as pb;
use episoded::proto::firewall::firewall_service_client::FirewallServiceClient;
use episoded::proto::firewall::tool_request::Request as Tool;
use episoded::proto::manifest as m;
use episoded::proto::session as spb;
use tonic::transport::Channel;

use crate::harness::{Client, Daemon, bearer, connect, register, registration};

pub type Firewall = FirewallServiceClient<Channel>;

pub async fn operator(daemon: &Daemon) -> Firewall {
    Firewall::new(connect(&daemon.operator_socket()).await)
}

pub async fn session(daemon: &Daemon) -> Firewall {
    Firewall::new(connect(&daemon.session_socket()).await)
}

/// An entry whose content is that text.
pub fn entry(path: &str, access: m::Access, content: &str) -> m::Entry {
    m::Entry {
        path: path.to_owned(),
        hash: blake3::hash(content.as_bytes()).as_bytes().to_vec(),
        access: access.into(),
        ..Default::default()
    }
}

pub fn tree(path: &str, access: m::TreeAccess) -> m::Tree {
    m::Tree {
        path: path.to_owned(),
        access: access.into(),
    }
}

/// Every class of tools, and these paths.
pub fn manifest(entries: Vec<m::Entry>, trees: Vec<m::Tree>) -> m::Manifest {
    m::Manifest {
        manifest_id: "m-1".to_owned(),
        profile_id: "p-1".to_owned(),
        entries,
        trees,
        tools: (1..=9).collect(),
        ..Default::default()
    }
}

/// `src/main.rs` to be read, `out` to be written.
pub fn small() -> m::Manifest {
    let entries = vec![entry("src/main.rs", m::Access::Read, "fn main() {}\n")];
    manifest(entries, vec![tree("out", m::TreeAccess::Write)])
}

/// A registration under that manifest, CONSUME and END.
pub fn consuming(work: &str, manifest: m::Manifest) -> spb::RegisterSessionRequest {
    let inline = spb::register_session_request::Manifest::InlineManifest(manifest.into());
    spb::RegisterSessionRequest {
        mode: spb::FirewallMode::Consume.into(),
        workspace_root: "/project".to_owned(),
        manifest: Some(inline),
        ..registration(work)
    }
}

/// A session that is under way.
pub struct Guarded {
    pub id: String,
    pub handle: String,
    firewall: Firewall,
}

impl Guarded {
    pub async fn register(
        daemon: &Daemon,
        operator: &mut Client,
        request: spb::RegisterSessionRequest,
    ) -> Self {
        let registered = register(operator, request).await;
        Self {
            id: registered.session_id,
            handle: registered.ephemeral_handle,
            firewall: session(daemon).await,
        }
    }

    /// The answer to a request, or the refusal to give one.
    pub async fn try_check(&mut self, tool: Tool) -> Result<pb::Verdict, tonic::Status> {
        let request = pb::CheckToolRequestRequest {
            session_id: String::new(),
            tool: Some(pb::ToolRequest {
                request: Some(tool),
            }),
        };
        let answer = self
            .firewall
            .check_tool_request(bearer(request, &self.handle))
            .await?;
        Ok(answer.into_inner().verdict.expect("there is a verdict"))
    }

    pub async fn check(&mut self, tool: Tool) -> pb::Verdict {
        self.try_check(tool).await.expect("it is decided")
    }

    /// Begins to read a file.
    pub async fn open_file(
        &mut self,
        path: &str,
    ) -> Result<tonic::Streaming<pb::ReadFileResponse>, tonic::Status> {
        let request = pb::ReadFileRequest {
            path: path.to_owned(),
            ..Default::default()
        };
        let answer = self.firewall.read_file(bearer(request, &self.handle));
        Ok(answer.await?.into_inner())
    }

    pub async fn read_file(&mut self, path: &str) -> Result<(pb::Verdict, Vec<u8>), tonic::Status> {
        let mut parts = self.open_file(path).await?;
        let head = parts.message().await?.expect("there is a first part");
        let mut bytes = head.data.to_vec();
        while let Some(part) = parts.message().await? {
            bytes.extend_from_slice(&part.data);
        }
        assert_eq!(bytes.len() as u64, head.size);
        assert_eq!(*head.hash, *blake3::hash(&bytes).as_bytes());
        Ok((head.verdict.expect("there is a verdict"), bytes))
    }
}

pub fn read(path: &str) -> Tool {
    Tool::Read(pb::Read {
        path: path.to_owned(),
        hash: Vec::new(),
    })
}

pub fn write(path: &str) -> Tool {
    Tool::Write(pb::Write {
        path: path.to_owned(),
    })
}

/// Panics unless the verdict allows.
pub fn allowed(verdict: pb::Verdict) -> pb::Verdict {
    assert_eq!(verdict.decision(), pb::Decision::Allow, "{verdict:?}");
    assert_eq!(verdict.reason(), spb::DenialReason::Unspecified);
    verdict
}

/// Panics unless the verdict denies for that reason, and ends the session or not.
pub fn denied(verdict: pb::Verdict, reason: spb::DenialReason, ended: bool) -> pb::Verdict {
    let said = (verdict.decision(), verdict.reason(), verdict.session_ended);
    assert_eq!(said, (pb::Decision::Deny, reason, ended), "{verdict:?}");
    verdict
}

/// Every event of a session, oldest first.
pub async fn history(operator: &mut Client, session_id: &str) -> Vec<spb::Event> {
    let request = spb::ListEventsRequest {
        page_size: 1000,
        filter: Some(spb::EventFilter {
            session_id: session_id.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = operator.list_events(request).await.expect("it lists");
    let mut events = answer.into_inner().events;
    events.reverse();
    events
}

pub fn kinds(events: &[spb::Event]) -> Vec<spb::EventKind> {
    events.iter().map(spb::Event::kind).collect()
}

impl Guarded {
    /// A request that asks for nothing.
    pub async fn check_nothing(&mut self) -> Result<pb::Verdict, tonic::Status> {
        let request = bearer(pb::CheckToolRequestRequest::default(), &self.handle);
        let answer = self.firewall.check_tool_request(request).await?;
        Ok(answer.into_inner().verdict.expect("there is a verdict"))
    }
}

impl Guarded {
    /// Speaks to a daemon that was started again.
    pub async fn reconnect(&mut self, daemon: &Daemon) {
        self.firewall = session(daemon).await;
    }
}

impl Guarded {
    /// The same session over another connection.
    pub async fn another(&self, daemon: &Daemon) -> Self {
        Self::of(daemon, &self.id, &self.handle).await
    }

    pub async fn of(daemon: &Daemon, id: &str, handle: &str) -> Self {
        Self {
            id: id.to_owned(),
            handle: handle.to_owned(),
            firewall: session(daemon).await,
        }
    }
}
