//! The end of a run's session, as its child ended.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::child::Exit;
use super::supervise::Ending;
use crate::cli::output::note;
use crate::client::Client;
use crate::proto::session::{ExitClassification, TerminateSessionRequest, TerminationReason};
use crate::reason::Reason;

/// How long the end of the session is worth another attempt.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);

/// Ends the session; keeps trying while the daemon is away.
pub async fn terminate(client: &Client, session_id: &str, ending: &Ending) {
    let deadline = Instant::now() + PATIENCE;
    let request = request(session_id, ending);
    loop {
        match client.terminate_session(request.clone()).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => sleep(PAUSE).await,
            Err(error) if error.reason != Some(Reason::SessionNotFound) => {
                let rest = "it is left to its idle timeout";
                return note(format_args!(
                    "cannot end session {session_id}: {error}; {rest}"
                ));
            }
            Ok(_) | Err(_) => return,
        }
    }
}

fn request(session_id: &str, ending: &Ending) -> TerminateSessionRequest {
    let (reason, classification, detail) = verdict(ending);
    TerminateSessionRequest {
        session_id: session_id.to_owned(),
        reason: reason.into(),
        exit_classification: classification.into(),
        exit_code: Some(ending.exit.code().into()),
        detail,
        ..TerminateSessionRequest::default()
    }
}

/// A child that died of a signal crashed, unless it was told to end: by a stop
/// request, or by a signal that was passed on, which a shell reports as 128+n.
fn verdict(ending: &Ending) -> (TerminationReason, ExitClassification, String) {
    let died_of = |signal: i32| format!("signal {signal}");
    let was_forwarded = |number: i32| {
        let mut forwarded = ending.forwarded.iter().copied().map(Signal::as_raw);
        forwarded.any(|signal| signal == number)
    };
    let normal = TerminationReason::Normal;
    match ending.exit {
        Exit::Signal(signal) if ending.stop_requested || was_forwarded(signal) => {
            (normal, ExitClassification::Cancelled, died_of(signal))
        }
        Exit::Signal(signal) => (
            TerminationReason::Crash,
            ExitClassification::Failure,
            died_of(signal),
        ),
        Exit::Code(0) => (normal, ExitClassification::Success, String::new()),
        Exit::Code(code) if ending.stop_requested || was_forwarded(code - 128) => {
            (normal, ExitClassification::Cancelled, String::new())
        }
        Exit::Code(_) => (normal, ExitClassification::Failure, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::{Ending, Exit, verdict};
    use crate::proto::session::{ExitClassification as Class, TerminationReason as Reason};

    fn verdict_of(exit: Exit, forwarded: &[Signal], stop_requested: bool) -> (Reason, Class) {
        let (reason, classification, _) = verdict(&Ending {
            exit,
            session_ended: false,
            stop_requested,
            forwarded: forwarded.to_vec(),
        });
        (reason, classification)
    }

    #[test]
    fn the_record_says_how_the_child_ended() {
        use Exit::{Code, Signal as Died};
        let term = [Signal::TERM];
        for (exit, forwarded, stop, reason, classification) in [
            (Code(0), &[][..], false, Reason::Normal, Class::Success),
            (Code(3), &[], false, Reason::Normal, Class::Failure),
            (Died(11), &[], false, Reason::Crash, Class::Failure),
            (Died(15), &[], false, Reason::Crash, Class::Failure),
            (Died(15), &term, false, Reason::Normal, Class::Cancelled),
            (Died(9), &term, false, Reason::Crash, Class::Failure),
            (Code(143), &term, false, Reason::Normal, Class::Cancelled),
            (Code(0), &term, false, Reason::Normal, Class::Success),
            (Died(15), &[], true, Reason::Normal, Class::Cancelled),
            (Code(1), &[], true, Reason::Normal, Class::Cancelled),
            (Code(0), &[], true, Reason::Normal, Class::Success),
        ] {
            let got = verdict_of(exit, forwarded, stop);
            assert_eq!(
                got,
                (reason, classification),
                "{exit:?} {forwarded:?} {stop}"
            );
        }
    }
}
