//! The context firewall, as the rest of the daemon asks it.

use std::sync::{Arc, atomic::Ordering};

use super::{Sessions, Wait};
use crate::{
    firewall::{
        decide::{Allowed, Decision, DenialReason, Denied, Judged, Request, Scope, decide},
        manifest::{Manifest, ManifestHash},
    },
    session::{
        batch::{Call, Ending},
        error::{CallError, CheckError},
        firewall::{DecisionId, Denial, Firewall, Mode, Noted, OnDenial},
        index::View,
        manifests::Manifests,
        operation::{
            deny::{DeniedNow, Deny, violation},
            lift::Lift,
        },
        refinement::{Refinement, RefinementId, Refinements},
        state::{Actor, Seq},
    },
};

/// Longest subject that is kept of a denial, in bytes.
const MAX_SUBJECT: usize = 1024;

/// What a session may do, decided.
#[derive(Debug)]
pub struct Verdict {
    /// Allowed, or denied, or what would have been denied.
    pub outcome: Result<Allowed, Denied>,
    /// Whether a denial is enforced.
    pub enforced: bool,
    /// What it was based on.
    pub rule: String,
    /// What was judged.
    pub judged: Judged,
    /// The pinned content, of an entry that is pinned.
    pub expected: Option<[u8; 32]>,
    /// Size of the pinned content, if the manifest has it.
    pub size: Option<u64>,
    /// What applied.
    pub manifest: Arc<Manifest>,
    /// The decision; none when nothing was decided, only explained.
    pub id: Option<DecisionId>,
    /// The session has ended.
    pub ended: bool,
    /// The refinement that was asked for.
    pub refinement: Option<Arc<Refinement>>,
}

impl Verdict {
    /// Whether the caller may go on.
    pub fn lets_through(&self) -> bool {
        self.outcome.is_ok() || !self.enforced
    }
}

/// The firewall of a session, and its manifest.
struct Applies {
    firewall: Arc<Firewall>,
    manifest: Arc<Manifest>,
}

impl Sessions {
    /// The manifest of that hash.
    pub fn manifest(&self, hash: &ManifestHash) -> Option<Arc<Manifest>> {
        self.shared.firewalls.manifests.find(hash)
    }

    /// The manifests that are stored.
    pub fn manifests(&self) -> &Manifests {
        &self.shared.firewalls.manifests
    }

    /// The refinements that are remembered.
    pub fn refinements(&self) -> &Refinements {
        &self.shared.firewalls.refinements
    }

    /// The refinement of that name.
    pub fn refinement(&self, id: RefinementId) -> Option<Arc<Refinement>> {
        self.refinements().find(id)
    }

    fn applies(&self, view: &View) -> Result<Applies, CheckError> {
        let firewall = view.session.firewall.clone();
        let firewall = firewall.ok_or(CheckError::NoFirewall)?;
        let manifest = self.manifest(&firewall.manifest.hash);
        let manifest = manifest.ok_or(CheckError::NoManifest)?;
        Ok(Applies { firewall, manifest })
    }

    /// How a request would be decided. Changes nothing.
    pub fn explain(&self, view: &View, request: &Request) -> Result<Verdict, CheckError> {
        let applies = self.applies(view)?;
        let decision = applies.decide(view, request);
        Ok(applies.verdict(decision, None))
    }

    /// Decides a request. A denial is noted and does what it does to the session
    /// before this answers. Both are rare, and boxed: a check that allows carries no
    /// room for them.
    pub async fn check(
        &self,
        view: &View,
        request: &Request,
        actor: Actor,
        wait: Wait,
    ) -> Result<Verdict, CallError<CheckError>> {
        let applies = self.applies(view).map_err(CallError::Refused)?;
        let decision = applies.decide(view, request);
        let lifts = decision.lifts.clone();
        let number = self.shared.decisions.fetch_add(1, Ordering::Relaxed);
        let id = DecisionId::new(self.now(), number);
        let verdict = applies.verdict(decision, Some(id));
        if verdict.outcome.is_err() {
            return Box::pin(self.deny(view, request, verdict, actor, wait)).await;
        }
        if !lifts.is_empty() {
            let lift = Lift {
                seq: view.session.seq,
                entries: lifts,
                call: unnamed(actor),
            };
            let lifted = Box::pin(self.call(lift, wait)).await;
            lifted.map_err(|error| error.map(CheckError::Target))?;
        }
        Ok(verdict)
    }

    /// Denies what was allowed, because its content is not the manifest's.
    pub async fn refute(
        &self,
        view: &View,
        request: &Request,
        mut verdict: Verdict,
        actor: Actor,
        wait: Wait,
    ) -> Result<Verdict, CallError<CheckError>> {
        verdict.outcome = Err(Denied {
            reason: DenialReason::ContentHashMismatch,
            ends: true,
            detail: "the file is not as the manifest has it".to_owned(),
        });
        self.deny(view, request, verdict, actor, wait).await
    }

    /// Notes a denial, and does what it does to the session.
    async fn deny(
        &self,
        view: &View,
        request: &Request,
        mut verdict: Verdict,
        actor: Actor,
        wait: Wait,
    ) -> Result<Verdict, CallError<CheckError>> {
        let Err(denied) = &verdict.outcome else {
            return Ok(verdict);
        };
        let session = &view.session;
        let denial = denial(request, denied, &verdict);
        let denials = &self.shared.firewalls.denials;
        let now = self.now();
        let total = denials.note(session.seq, session.denials(), denial, actor.clone(), now);
        let Some(firewall) = session.firewall.as_ref().filter(|_| verdict.enforced) else {
            return Ok(verdict);
        };
        let ending = ending(firewall, denied, total);
        let missed = match (denied.reason, &verdict.judged) {
            (DenialReason::ContextMiss, Judged::Path(path)) => Some(path.as_str().into()),
            _ => None,
        };
        if ending.is_none() && missed.is_none() {
            return Ok(verdict);
        }
        let noted = denials.take_of(session.seq);
        let deny = Deny {
            seq: session.seq,
            noted: noted.clone(),
            missed,
            ending,
            call: unnamed(actor),
        };
        let done = match self.call(deny, wait).await {
            Ok(done) => done,
            Err(CallError::Refused(never)) => match never {},
            Err(error) => {
                self.note_again(session.seq, noted, &error);
                return Err(error.map(|never: std::convert::Infallible| match never {}));
            }
        };
        apply(&mut verdict, done);
        Ok(verdict)
    }
}

impl Sessions {
    /// Denials that were not written go on waiting, unless their session ends: then
    /// its end is what is written, again and again until it lands.
    fn note_again<E>(&self, seq: Seq, noted: Vec<Noted>, error: &CallError<E>) {
        if matches!(error, CallError::OutcomeUnknown | CallError::Stopping) {
            return;
        }
        let view = self.shared.index.by_seq(seq);
        if view.is_some_and(|view| view.session.is_active()) {
            let again = noted.into_iter().map(|noted| (seq, noted));
            self.shared.firewalls.denials.give_back(again.collect());
        }
    }
}

impl Applies {
    fn decide<'a>(&'a self, view: &'a View, request: &Request) -> Decision<'a> {
        let scope = Scope {
            manifest: &self.manifest,
            root: &self.firewall.workspace_root,
            lifted: view.session.lifted(),
        };
        decide(&scope, request)
    }

    fn verdict(&self, decision: Decision<'_>, id: Option<DecisionId>) -> Verdict {
        let entry = match (&decision.outcome, decision.basis) {
            (Ok(allowed), crate::firewall::decide::Basis::Entry(entry)) if allowed.pinned => {
                Some(entry)
            }
            _ => None,
        };
        Verdict {
            expected: entry.map(|entry| entry.hash),
            size: entry.and_then(|entry| entry.size),
            rule: decision.basis.to_string(),
            outcome: decision.outcome,
            enforced: self.firewall.mode == Mode::Consume,
            judged: decision.judged,
            manifest: Arc::clone(&self.manifest),
            id,
            ended: false,
            refinement: None,
        }
    }
}

fn apply(verdict: &mut Verdict, done: DeniedNow) {
    verdict.ended = done.ended;
    verdict.refinement = done.refinement;
    if let Err(denied) = &mut verdict.outcome
        && done.exceeded
    {
        denied.reason = DenialReason::MaxRefinementsExceeded;
        denied.detail = String::from("this work id has had its refinements");
    }
}

/// How a denial ends its session, if it does. A miss that does is no violation: the
/// session ends by it in its own way.
fn ending(firewall: &Firewall, denied: &Denied, total: u64) -> Option<Ending> {
    match firewall.on_denial {
        OnDenial::End if denied.reason == DenialReason::ContextMiss => None,
        OnDenial::End => denied.ends.then(|| violation(denied.reason.code())),
        OnDenial::Continue { max_denials } => {
            (total > u64::from(max_denials)).then(|| violation("max_denials"))
        }
    }
}

fn denial(request: &Request, denied: &Denied, verdict: &Verdict) -> Denial {
    let id = verdict.id.clone();
    Denial {
        decision: id.unwrap_or_else(|| DecisionId::kept("")),
        reason: denied.reason,
        request: request.kind().into(),
        subject: shortened(&verdict.judged.shown()).into(),
        rule: verdict.rule.as_str().into(),
        detail: shortened(&denied.detail).into(),
        enforced: verdict.enforced,
        count: 1,
    }
}

/// Cut between two characters.
fn shortened(text: &str) -> &str {
    let fits = (0..=MAX_SUBJECT.min(text.len())).rev();
    let at = fits.into_iter().find(|at| text.is_char_boundary(*at));
    &text[..at.unwrap_or(0)]
}

fn unnamed(actor: Actor) -> Call {
    Call {
        actor,
        request: None,
    }
}
