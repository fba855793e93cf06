//! The firewall's reading of commands, against what shells do.

mod bypass;
mod oracle;
mod rules;
mod second;
mod shells;
mod strings;
