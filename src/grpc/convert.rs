//! Between wire and domain: parsed on the way in, shown on the way out.

pub(super) mod fields;
pub(super) mod filter;
pub(super) mod firewall;
pub(crate) mod request;
pub(crate) mod show;
