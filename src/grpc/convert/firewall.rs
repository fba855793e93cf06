//! The context firewall's requests, parsed, and its verdicts, shown.

use std::collections::BTreeMap;

use crate::{
    firewall::{
        decide::{CommandRequest, DenialReason, Judged, Request},
        manifest::{Fault, ManifestHash, NamedTool},
        path::AbsolutePath,
    },
    grpc::{
        convert::show::{labels, timestamp},
        status::{Refusal, Violations},
    },
    proto::{firewall as pb, manifests, session as session_pb},
    reason::Reason,
    session::{
        firewall::{Denial, Firewall, MAX_DENIALS, Mode, OnDenial},
        operation::{manifest::Context, register::Guard},
        refinement::{Refinement, RefinementState},
        service::Verdict,
        state::Session,
    },
};

/// Longest digest of a tool's arguments, in bytes: that of any hash in use.
const MAX_DIGEST: usize = 64;

/// The firewall of a registration; none for a STANDARD session.
pub(crate) fn guard(
    request: &mut session_pb::RegisterSessionRequest,
    max_entries: usize,
    bad: &mut Violations,
) -> Option<Guard> {
    use session_pb::{FirewallMode as WireMode, OnDenial as WireOnDenial};
    let mode = match WireMode::try_from(request.mode) {
        Ok(WireMode::Unspecified | WireMode::Standard) => None,
        Ok(WireMode::Audit) => Some(Mode::Audit),
        Ok(WireMode::Consume) => Some(Mode::Consume),
        Err(_) => {
            bad.add(Reason::MalformedMessage, "mode", "must be a mode");
            None
        }
    };
    let max_denials = request.max_denials;
    let on_denial = match WireOnDenial::try_from(request.on_denial) {
        Ok(WireOnDenial::Unspecified | WireOnDenial::End) => OnDenial::End,
        Ok(WireOnDenial::Continue) => OnDenial::Continue {
            max_denials: max_denials.unwrap_or(MAX_DENIALS),
        },
        Err(_) => {
            let rule = "must be END or CONTINUE";
            bad.add(Reason::MalformedMessage, "on_denial", rule);
            OnDenial::End
        }
    };
    match (on_denial, max_denials) {
        (OnDenial::End, Some(_)) => {
            bad.add(
                Reason::MalformedMessage,
                "max_denials",
                "needs on_denial CONTINUE",
            );
        }
        (_, Some(0)) => bad.add(Reason::MalformedMessage, "max_denials", "must not be 0"),
        _ => {}
    }
    let manifest = request.manifest.take();
    let Some(mode) = mode else {
        refuse_without_mode(request, manifest.is_some(), bad);
        return None;
    };
    let context = context(manifest, max_entries, bad);
    let workspace_root = root("workspace_root", &request.workspace_root, bad);
    let host_root = match request.host_root.as_str() {
        "" => None,
        text => root("host_root", text, bad),
    };
    Some(Guard {
        mode,
        on_denial,
        context: context?,
        workspace_root: workspace_root?,
        host_root,
    })
}

/// A firewall that is only half asked for is a mistake.
fn refuse_without_mode(
    request: &session_pb::RegisterSessionRequest,
    has_manifest: bool,
    bad: &mut Violations,
) {
    for (field, is_set) in [
        ("manifest", has_manifest),
        ("workspace_root", !request.workspace_root.is_empty()),
        ("host_root", !request.host_root.is_empty()),
        ("on_denial", request.on_denial != 0),
    ] {
        if is_set {
            bad.add(
                Reason::MalformedMessage,
                field,
                "needs mode AUDIT or CONSUME",
            );
        }
    }
}

fn context(
    manifest: Option<session_pb::register_session_request::Manifest>,
    max_entries: usize,
    bad: &mut Violations,
) -> Option<Context> {
    use session_pb::register_session_request::Manifest as Wire;
    match manifest {
        None => {
            let rule = "must be given, by its hash or inline";
            bad.add(Reason::MalformedMessage, "manifest", rule);
            None
        }
        Some(Wire::ManifestHash(bytes)) => {
            manifest_hash("manifest_hash", &bytes, bad).map(Context::Stored)
        }
        Some(Wire::InlineManifest(wire)) => match manifests::build(*wire, max_entries) {
            Ok(manifest) => Some(Context::New(manifest.into())),
            Err(faults) => {
                note_faults("inline_manifest.", faults, bad);
                None
            }
        },
    }
}

pub(crate) fn note_faults(prefix: &str, faults: Vec<Fault>, bad: &mut Violations) {
    for fault in faults {
        let field = format!("{prefix}{}", fault.field);
        bad.add(Reason::InvalidManifest, field, fault.rule);
    }
}

pub(crate) fn manifest_hash(
    field: &str,
    bytes: &[u8],
    bad: &mut Violations,
) -> Option<ManifestHash> {
    let hash = bytes.try_into().map(ManifestHash);
    hash.map_err(|_| bad.add(Reason::MalformedMessage, field, "must be 32 bytes"))
        .ok()
}

fn root(field: &str, text: &str, bad: &mut Violations) -> Option<AbsolutePath> {
    AbsolutePath::parse(text)
        .map_err(|error| bad.add(Reason::InvalidPath, field, error.rule()))
        .ok()
}

/// Empty or 32 bytes.
pub(crate) fn content_hash(field: &str, bytes: &[u8]) -> Result<Option<[u8; 32]>, Refusal> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(Some).map_err(|_| {
        let mut bad = Violations::default();
        bad.add(Reason::MalformedMessage, field, "must be empty or 32 bytes");
        bad.into_refusal()
    })
}

/// What a session wants to do. What this version does not know is denied later,
/// not refused here.
pub(crate) fn tool(request: Option<pb::ToolRequest>) -> Result<Request, Refusal> {
    use pb::tool_request::Request as Wire;
    let Some(wire) = request.and_then(|request| request.request) else {
        return Ok(Request::Unknown);
    };
    Ok(match wire {
        Wire::Read(read) => Request::Read {
            hash: content_hash("tool.read.hash", &read.hash)?,
            path: read.path,
        },
        Wire::Stat(stat) => Request::Stat(stat.path),
        Wire::List(list) => Request::List(list.path),
        Wire::Search(search) => Request::Search {
            scope: search.scope,
            recursive: search.recursive,
        },
        Wire::Write(write) => Request::Write(write.path),
        Wire::Edit(edit) => Request::Edit(edit.path),
        Wire::Delete(delete) => Request::Delete(delete.path),
        Wire::MakeDirectory(make) => Request::MakeDirectory(make.path),
        Wire::Rename(rename) => Request::Rename {
            from: rename.from,
            to: rename.to,
        },
        Wire::Command(command) => Request::Command(command_request(command)),
        Wire::Git(git) => Request::Git(CommandRequest {
            words: git.arguments,
            line: None,
            directory: git.working_directory,
            environment: names(git.environment),
        }),
        Wire::Network(network) => {
            if let Ok(port) = u16::try_from(network.port) {
                Request::Network {
                    host: network.host,
                    port,
                }
            } else {
                let mut bad = Violations::default();
                let rule = "must be at most 65,535";
                bad.add(Reason::MalformedMessage, "tool.network.port", rule);
                return Err(bad.into_refusal());
            }
        }
        Wire::CallTool(tool) => Request::NamedTool {
            digest: argument_digest(tool.argument_digest)?,
            tool: NamedTool {
                server: tool.server.into(),
                name: tool.name.into(),
            },
        },
        Wire::Inference(inference) => Request::Inference(inference.model),
        Wire::Artifact(artifact) => Request::Artifact(artifact.name),
    })
}

fn argument_digest(bytes: Vec<u8>) -> Result<Box<[u8]>, Refusal> {
    if bytes.len() <= MAX_DIGEST {
        return Ok(bytes.into());
    }
    let mut bad = Violations::default();
    let rule = "must be at most 64 bytes";
    bad.add(
        Reason::MalformedMessage,
        "tool.call_tool.argument_digest",
        rule,
    );
    Err(bad.into_refusal())
}

fn command_request(command: pb::Command) -> CommandRequest {
    use pb::command::Form;
    let (words, line) = match command.form {
        None => (Vec::new(), None),
        Some(Form::Argv(argv)) => (argv.words, None),
        Some(Form::Line(line)) => (Vec::new(), Some(line)),
    };
    CommandRequest {
        words,
        line,
        directory: command.working_directory,
        environment: names(command.environment),
    }
}

fn names(environment: BTreeMap<String, String>) -> Vec<String> {
    environment.into_keys().collect()
}

/// A verdict.
pub(crate) fn verdict(verdict: &Verdict) -> pb::Verdict {
    let mut shown = pb::Verdict {
        decision: pb::Decision::Allow.into(),
        rule: verdict.rule.clone(),
        enforced: verdict.enforced,
        manifest_id: verdict.manifest.manifest_id().to_owned(),
        manifest_hash: verdict.manifest.hash().0.to_vec(),
        decision_id: verdict
            .id
            .as_ref()
            .map_or_else(String::new, |id| id.as_str().to_owned()),
        session_ended: verdict.ended,
        refinement_id: verdict
            .refinement
            .as_ref()
            .map_or_else(String::new, |refinement| refinement.id.to_string()),
        expected_hash: verdict.expected.map_or_else(Vec::new, |hash| hash.to_vec()),
        ..Default::default()
    };
    show_judged(&verdict.judged, &mut shown);
    match &verdict.outcome {
        Ok(allowed) => {
            shown.pinned = allowed.pinned;
            shown.narrowed = allowed.narrowed;
        }
        Err(denied) => {
            let decision = if verdict.enforced {
                pb::Decision::Deny
            } else {
                pb::Decision::WouldDeny
            };
            shown.decision = decision.into();
            shown.reason = denial_reason(denied.reason).into();
            shown.detail.clone_from(&denied.detail);
        }
    }
    shown
}

fn show_judged(judged: &Judged, shown: &mut pb::Verdict) {
    let words = |words: &Vec<String>| crate::proto::manifest::Words {
        words: words.clone(),
    };
    match judged {
        Judged::Raw(_) => {}
        Judged::Name(name) => shown.name.clone_from(name),
        Judged::Path(path) => path.as_str().clone_into(&mut shown.path),
        Judged::Paths(from, to) => {
            from.as_str().clone_into(&mut shown.path);
            to.as_str().clone_into(&mut shown.to_path);
        }
        Judged::Commands(commands) => shown.commands = commands.iter().map(words).collect(),
    }
}

pub(crate) fn denial_reason(reason: DenialReason) -> session_pb::DenialReason {
    use session_pb::DenialReason as Wire;
    match reason {
        DenialReason::ToolNotAllowed => Wire::ToolNotAllowed,
        DenialReason::ContextMiss => Wire::ContextMiss,
        DenialReason::ContentHashMismatch => Wire::ContentHashMismatch,
        DenialReason::ContentHashRequired => Wire::ContentHashRequired,
        DenialReason::InvalidPath => Wire::InvalidPath,
        DenialReason::WritePathNotAllowed => Wire::WritePathNotAllowed,
        DenialReason::CommandNotAllowed => Wire::CommandNotAllowed,
        DenialReason::ToolArgsNotAllowed => Wire::ToolArgsNotAllowed,
        DenialReason::MaxRefinementsExceeded => Wire::MaxRefinementsExceeded,
    }
}

/// The reason of an error that a denial is answered with.
pub(crate) fn error_reason(reason: DenialReason) -> Reason {
    match reason {
        DenialReason::ToolNotAllowed => Reason::ToolNotAllowed,
        DenialReason::ContextMiss => Reason::ContextMiss,
        DenialReason::ContentHashMismatch => Reason::ContentHashMismatch,
        DenialReason::ContentHashRequired => Reason::ContentHashRequired,
        DenialReason::InvalidPath => Reason::InvalidPath,
        DenialReason::WritePathNotAllowed => Reason::WritePathNotAllowed,
        DenialReason::CommandNotAllowed => Reason::CommandNotAllowed,
        DenialReason::ToolArgsNotAllowed => Reason::ToolArgsNotAllowed,
        DenialReason::MaxRefinementsExceeded => Reason::MaxRefinementsExceeded,
    }
}

/// What the firewall does for a session. `manifest` finds what its lifted entries
/// are called.
pub(crate) fn firewall(
    firewall: &Firewall,
    session: &Session,
    lifted_paths: Vec<String>,
) -> session_pb::Firewall {
    let (on_denial, max_denials) = match firewall.on_denial {
        OnDenial::End => (session_pb::OnDenial::End, 0),
        OnDenial::Continue { max_denials } => (session_pb::OnDenial::Continue, max_denials),
    };
    let mode = match firewall.mode {
        Mode::Audit => session_pb::FirewallMode::Audit,
        Mode::Consume => session_pb::FirewallMode::Consume,
    };
    session_pb::Firewall {
        mode: mode.into(),
        on_denial: on_denial.into(),
        max_denials,
        manifest_hash: firewall.manifest.hash.0.to_vec(),
        manifest_id: firewall.manifest.id.to_string(),
        workspace_root: firewall.workspace_root.as_str().to_owned(),
        host_root: firewall
            .host_root
            .as_ref()
            .map_or_else(String::new, |root| root.as_str().to_owned()),
        denials: session.denials(),
        lifted_paths,
    }
}

pub(crate) fn denial(denial: &Denial) -> session_pb::Denial {
    session_pb::Denial {
        decision_id: denial.decision.as_str().to_owned(),
        reason: denial_reason(denial.reason).into(),
        request: denial.request.to_string(),
        subject: denial.subject.to_string(),
        rule: denial.rule.to_string(),
        detail: denial.detail.to_string(),
        enforced: denial.enforced,
        count: denial.count,
    }
}

/// A refinement.
pub(crate) fn refinement(refinement: &Refinement) -> session_pb::Refinement {
    use session_pb::RefinementState as Wire;
    let session = &refinement.session;
    let (state, successor, declined) = match &refinement.state {
        RefinementState::Pending => (Wire::Pending, "", ""),
        RefinementState::Answered(successor) => (Wire::Answered, successor.as_str(), ""),
        RefinementState::Declined(reason) => (Wire::Declined, "", &**reason),
        RefinementState::Expired => (Wire::Expired, "", ""),
    };
    session_pb::Refinement {
        refinement_id: refinement.id.to_string(),
        session_id: session.id().to_owned(),
        work_id: session.work_id().to_owned(),
        labels: labels(session.labels()),
        coordination_id: session.spec.coordination_id.as_str().to_owned(),
        manifest_hash: refinement.manifest.hash.0.to_vec(),
        manifest_id: refinement.manifest.id.to_string(),
        missed_path: refinement.path.to_string(),
        count: refinement.count,
        create_time: Some(timestamp(refinement.created)),
        state: state.into(),
        change_time: Some(timestamp(refinement.changed)),
        successor_session_id: successor.to_owned(),
        decline_reason: declined.to_owned(),
        expire_time: Some(timestamp(refinement.expires)),
    }
}
