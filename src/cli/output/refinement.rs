//! Refinements and denials, as lines.

use super::text::{Columns, clean, milli, short};
use crate::proto::session::{Denial, Refinement};

/// The heading of [`row`].
const HEADING: [&str; 7] = [
    "REFINEMENT",
    "STATE",
    "WORK",
    "SESSION",
    "COUNT",
    "ASKED",
    "MISSED PATH",
];

/// An empty table of refinements.
pub fn columns() -> Columns {
    Columns::new(&HEADING)
}

/// One refinement on one line.
pub fn row(refinement: &Refinement) -> Vec<String> {
    let mut state = short(refinement.state().as_str_name(), "REFINEMENT_STATE_");
    if !refinement.successor_session_id.is_empty() {
        state = format!("{state} by {}", refinement.successor_session_id);
    }
    vec![
        refinement.refinement_id.clone(),
        state,
        refinement.work_id.clone(),
        refinement.session_id.clone(),
        format!("{}/10", refinement.count),
        milli(refinement.create_time.as_ref()),
        refinement.missed_path.clone(),
    ]
}

/// The same as a line of its own.
pub fn line(refinement: &Refinement) -> String {
    format!("{}\n", clean(&row(refinement).join("  ")))
}

/// A denial, in a few words.
pub fn denial(denial: &Denial) -> String {
    let reason = denial.reason().as_str_name();
    let reason = reason.strip_prefix("DENIAL_REASON_").unwrap_or(reason);
    let mut words = vec![
        reason.to_owned(),
        denial.request.clone(),
        denial.subject.clone(),
        format!("({})", denial.rule),
    ];
    if !denial.detail.is_empty() {
        words.push(format!("- {}", denial.detail));
    }
    if !denial.enforced {
        words.push("- not enforced".to_owned());
    }
    if denial.count > 1 {
        words.push(format!("- the last of {} in its minute", denial.count));
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}
