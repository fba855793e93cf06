//! The firewall's reading of commands, against what shells do.

mod bypass;
mod oracle;
mod rules;
mod shells;
mod strings;
