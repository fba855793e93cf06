//! `session register`, and the options that describe a new session.

use bytes::Bytes;
use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;

use crate::cli::args::{self, Deadline, Labels, wire_deadline};
use crate::cli::context::Context;
use crate::cli::error::{CliError, exit};
use crate::cli::output::{note, session::detail};
use crate::cli::secrets::{HandleOut, NewLeaseArgs};
use crate::cli::session::firewall::FirewallArgs;
use crate::client::error::Origin;
use crate::client::{ClientError, Handle, Lease};
use crate::proto::session::{
    IdentityEvidence, PcacPolicy, PointerOnlyWaiver, RegisterSessionRequest,
    RegisterSessionResponse, Role, SovereigntyMode, register_session_request,
};

/// What a new session is; also the options of `run`.
#[derive(Debug, Clone, Args)]
pub struct NewSession {
    /// What the episode works on
    #[arg(long, value_name = "ID")]
    work_id: String,

    /// Name of the session; a random one is made if absent
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new())]
    session_id: Option<String>,

    /// Public name of the lease's holder
    #[arg(long, value_name = "NAME")]
    lease_holder: Option<String>,

    /// The episode, if it is known already
    #[arg(long, value_name = "ID")]
    pub episode_id: Option<String>,

    /// What coordinates this session with others
    #[arg(long, value_name = "ID")]
    coordination_id: Option<String>,

    /// The session that spawned this one
    #[arg(long, value_name = "ID", value_parser = NonEmpty::new())]
    parent_session_id: Option<String>,

    /// Reference of the resolved policy
    #[arg(long, value_name = "REF")]
    policy_ref: Option<String>,

    /// Hash of the capability manifest (64 hexadecimal digits)
    #[arg(long, value_name = "HASH", value_parser = args::hash)]
    manifest_hash: Option<Bytes>,

    #[command(flatten)]
    labels: Labels,

    #[command(flatten)]
    deadline: Deadline,

    /// End the session after this much silence (60s, 5m)
    #[arg(long, value_name = "DURATION", value_parser = args::wire_duration)]
    idle: Option<prost_types::Duration>,

    /// When the registry is full, end the oldest sessions instead of failing
    #[arg(long)]
    allow_eviction: bool,

    /// Fail if the work id has a live session already
    #[arg(long)]
    exclusive: bool,

    /// Makes a repeated registration answer the first one
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    waiver: WaiverArgs,

    #[command(flatten)]
    pub firewall: FirewallArgs,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "PCAC policy")]
struct PolicyArgs {
    /// Whether the lifecycle is enforced
    #[arg(long, value_name = "BOOL")]
    lifecycle_enforcement: Option<bool>,

    /// The least identity evidence of tier 2
    #[arg(long, value_name = "EVIDENCE", value_parser = args::evidence())]
    min_evidence: Option<IdentityEvidence>,

    /// How old evidence may be
    #[arg(long, value_name = "TICKS")]
    freshness_max_age: Option<u64>,

    /// How tier 2 sovereignty is treated
    #[arg(long, value_name = "MODE", value_parser = args::sovereignty())]
    sovereignty: Option<SovereigntyMode>,
}

impl PolicyArgs {
    fn into_wire(self) -> Option<PcacPolicy> {
        let policy = PcacPolicy {
            lifecycle_enforcement: self.lifecycle_enforcement,
            min_tier2_identity_evidence: self.min_evidence.map(Into::into),
            freshness_max_age_ticks: self.freshness_max_age,
            tier2_sovereignty_mode: self.sovereignty.map(Into::into),
        };
        (policy != PcacPolicy::default()).then_some(policy)
    }
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pointer-only waiver")]
struct WaiverArgs {
    /// Its id
    #[arg(id = "waiver_id", long = "waiver-id", value_name = "ID",
        requires_all = ["waiver_expires_at_tick", "waiver_scope_hash"])]
    id: Option<String>,

    /// When it expires
    #[arg(
        id = "waiver_expires_at_tick",
        long = "waiver-expires-at-tick",
        value_name = "TICK",
        requires = "waiver_id"
    )]
    expires_at_tick: Option<u64>,

    /// What it is bound to (64 hexadecimal digits)
    #[arg(id = "waiver_scope_hash", long = "waiver-scope-hash",
        value_name = "HASH", value_parser = args::hash, requires = "waiver_id")]
    scope_hash: Option<Bytes>,
}

impl WaiverArgs {
    fn into_wire(self) -> Option<PointerOnlyWaiver> {
        Some(PointerOnlyWaiver {
            waiver_id: self.id?,
            expires_at_tick: self.expires_at_tick.unwrap_or_default(),
            scope_binding_hash: self.scope_hash.unwrap_or_default().to_vec(),
        })
    }
}

impl NewSession {
    /// The request that registers it.
    pub fn into_request(
        self,
        role: Role,
        lease: Option<&Lease>,
    ) -> Result<RegisterSessionRequest, CliError> {
        Ok(RegisterSessionRequest {
            work_id: self.work_id,
            role: role.into(),
            lease_id: lease
                .map(|lease| lease.expose().to_owned())
                .unwrap_or_default(),
            session_id: self.session_id.unwrap_or_default(),
            lease_holder: self.lease_holder.unwrap_or_default(),
            policy_resolved_ref: self.policy_ref.unwrap_or_default(),
            capability_manifest_hash: self.manifest_hash.unwrap_or_default().to_vec(),
            episode_id: self.episode_id.unwrap_or_default(),
            coordination_id: self.coordination_id.unwrap_or_default(),
            parent_session_id: self.parent_session_id.unwrap_or_default(),
            pcac_policy: self.policy.into_wire(),
            pointer_only_waiver: self.waiver.into_wire(),
            labels: self.labels.into_map()?,
            deadline: wire_deadline!(self.deadline, register_session_request::Deadline),
            idle_timeout: self.idle,
            allow_eviction: self.allow_eviction,
            exclusive_work: self.exclusive,
            request_id: self.request_id.unwrap_or_default(),
            ..RegisterSessionRequest::default()
        })
    }
}

/// Whether a registration that was answered so, or not at all, may be there.
pub fn may_be_registered(answer: &Result<RegisterSessionResponse, ClientError>) -> bool {
    answer
        .as_ref()
        .err()
        .is_none_or(|error| match error.origin {
            Origin::Unreachable => false,
            Origin::Daemon => error.is_transient(),
            Origin::Connection => true,
        })
}

/// Register a session and keep its handle.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  episodectl session register --work-id task-17 --role implementer \\
      --new-lease-file lease --idle 5m --label team=blue --handle-out handle")]
pub struct Register {
    /// What the episode does
    #[arg(long, value_parser = args::role())]
    role: Role,

    #[command(flatten)]
    out: HandleOut,

    #[command(flatten)]
    lease: NewLeaseArgs,

    #[command(flatten)]
    session: NewSession,
}

impl Register {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let destination = self.out.open()?;
        let lease = self.lease.resolve(&context.env)?;
        let firewall = self.session.firewall.clone();
        let mut request = self.session.into_request(self.role, lease.lease.as_ref())?;
        let client = context.operator().await?;
        firewall.apply(&client, &mut request).await?;
        let answer = client.register_session(request).await;
        if may_be_registered(&answer) {
            lease.keep();
        }
        let mut answer = answer?;
        let handle = answer.session.as_mut().and_then(Handle::take);
        for evicted in &answer.evicted {
            note(format_args!("evicted session {}", evicted.session_id));
        }
        let session_id = answer
            .session
            .as_ref()
            .map(|s| s.session_id.clone())
            .unwrap_or_default();
        if destination.leaves_stdout() {
            let mut printer = context.printer();
            printer.answer(&answer, |answer| detail(answer.session.as_ref()))?;
            printer.flush()?;
        } else {
            note(format_args!("registered session {session_id}"));
        }
        match handle {
            Some(handle) => destination.write(&handle),
            None => Err(withheld(&session_id)),
        }
    }
}

/// A repeated registration whose handle is in use already.
pub fn withheld(session_id: &str) -> CliError {
    CliError::local(
        exit::WITHHELD,
        "FAILED_PRECONDITION",
        format!("session {session_id} was registered by this request before and its handle is in use: it is not given again"),
    )
    .with_hint(format!("replace it with `episodectl session rotate {session_id} --handle-out FILE`"))
}
