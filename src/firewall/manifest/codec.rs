//! The one encoding of a manifest: what its hash is over, and what is stored.
//!
//! A magic and a version, then every field behind its length, sets in order. Texts
//! and lists have a length of 32 bits, numbers are 64 bits, all little-endian; an
//! absent number is one byte 0, a present one follows a byte 1. Equal manifests
//! have equal encodings, and no two encodings decode to one manifest.

use std::fmt;

use super::{
    Access, Draft, DraftEntry, DraftTree, Host, Manifest, ManifestHash, NamedTool, ToolClass,
    TreeAccess,
};
use crate::firewall::{
    command::{Matcher, Rule},
    path::RelativePath,
};

const MAGIC: &[u8] = b"episoded manifest";
const VERSION: u8 = 1;
/// Separates these hashes from all other uses of BLAKE3.
const CONTEXT: &str = "episoded 2026-11-21 context pack manifest v1";

/// Matchers inside matchers; what a valid rule needs.
const MAX_DEPTH: u8 = 4;

/// Bytes that are no manifest's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEncoding;

impl fmt::Display for BadEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the encoding of a manifest")
    }
}

impl std::error::Error for BadEncoding {}

/// The hash of an encoding.
pub(super) fn hash_of(encoding: &[u8]) -> ManifestHash {
    ManifestHash(blake3::derive_key(CONTEXT, encoding))
}

impl Manifest {
    /// Its one encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer(Vec::with_capacity(128 + 96 * self.entries.len()));
        to.0.extend_from_slice(MAGIC);
        to.0.push(VERSION);
        to.text(&self.manifest_id);
        to.text(&self.profile_id);
        to.list(&self.entries, |to, entry| {
            to.text(entry.path.as_str());
            to.0.extend_from_slice(&entry.hash);
            to.0.push(access_number(entry.access));
            to.text(&entry.stable_id);
            to.option(entry.size);
        });
        to.list(&self.trees, |to, tree| {
            to.text(tree.path.as_str());
            to.0.push(tree_number(tree.access));
        });
        let tools: Vec<ToolClass> = self.tools.iter().collect();
        to.list(&tools, |to, class| to.0.push(*class as u8));
        to.list(&self.commands, Writer::rule);
        to.list(&self.named_tools(), |to, tool| {
            to.text(&tool.server);
            to.text(&tool.name);
        });
        to.list(&self.network(), |to, host| {
            to.text(&host.name);
            to.option(host.port.map(u64::from));
        });
        to.list(&self.models(), |to, name| to.text(name));
        to.list(&self.artifacts(), |to, name| to.text(name));
        to.0
    }

    /// The manifest of an encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadEncoding> {
        let draft = Reader(bytes).draft().ok_or(BadEncoding)?;
        let manifest = draft.build(usize::MAX).map_err(|_| BadEncoding)?;
        if manifest.hash == hash_of(bytes) {
            Ok(manifest)
        } else {
            Err(BadEncoding)
        }
    }
}

fn access_number(access: Access) -> u8 {
    match access {
        Access::Read => 0,
        Access::ReadWithZoom => 1,
        Access::ReadWrite => 2,
    }
}

fn tree_number(access: TreeAccess) -> u8 {
    match access {
        TreeAccess::Read => 0,
        TreeAccess::Write => 1,
        TreeAccess::ReadWrite => 2,
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).expect("a manifest's parts are below 4 GiB");
        self.0.extend_from_slice(&length.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn option(&mut self, number: Option<u64>) {
        self.0.push(number.is_some().into());
        if let Some(number) = number {
            self.number(number);
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.length(items.len());
        for item in items {
            write(self, item);
        }
    }

    fn rule(&mut self, rule: &Rule) {
        self.text(&rule.program);
        self.list(&rule.arguments, Self::matcher);
        self.0.push(rule.working_directory.is_some().into());
        if let Some(directory) = &rule.working_directory {
            self.text(directory.as_str());
        }
        self.list(&rule.environment, |to, name| to.text(name));
    }

    fn matcher(&mut self, matcher: &Matcher) {
        match matcher {
            Matcher::Literal(text) => {
                self.0.push(0);
                self.text(text);
            }
            Matcher::OneOf(texts) => {
                self.0.push(1);
                self.list(texts, |to, text| to.text(text));
            }
            Matcher::PathUnder(path) => {
                self.0.push(2);
                self.text(path.as_str());
            }
            Matcher::Integer { min, max } => {
                self.0.push(3);
                self.number(min.cast_unsigned());
                self.number(max.cast_unsigned());
            }
            Matcher::Text => self.0.push(4),
            Matcher::Option { names, value } => {
                self.0.push(5);
                self.list(names, |to, name| to.text(name));
                self.matcher(value);
            }
            Matcher::AnyOf(matchers) => {
                self.0.push(6);
                self.list(matchers, Self::matcher);
            }
            Matcher::AnyNumberOf(matcher) => {
                self.0.push(7);
                self.matcher(matcher);
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn draft(mut self) -> Option<Draft> {
        if self.take(MAGIC.len())? != MAGIC || self.byte()? != VERSION {
            return None;
        }
        let draft = Draft {
            manifest_id: self.text()?,
            profile_id: self.text()?,
            entries: self.list(Self::entry)?,
            trees: self.list(|from| {
                Some(DraftTree {
                    path: from.relative()?.shown().to_owned(),
                    access: from.tree_access()?,
                })
            })?,
            tools: self.list(|from| ToolClass::ALL.get(usize::from(from.byte()?)).copied())?,
            commands: self.list(Self::rule)?,
            named_tools: self.list(|from| {
                Some(NamedTool {
                    server: from.text()?.into(),
                    name: from.text()?.into(),
                })
            })?,
            network: self.list(|from| {
                Some(Host {
                    name: from.text()?.into(),
                    port: from.option()?.map(u16::try_from).transpose().ok()?,
                })
            })?,
            models: self.list(Self::text)?,
            artifacts: self.list(Self::text)?,
        };
        self.0.is_empty().then_some(draft)
    }

    fn entry(&mut self) -> Option<DraftEntry> {
        Some(DraftEntry {
            path: self.text()?,
            hash: self.take(32)?.to_vec(),
            access: match self.byte()? {
                0 => Access::Read,
                1 => Access::ReadWithZoom,
                2 => Access::ReadWrite,
                _ => return None,
            },
            stable_id: self.text()?,
            size: self.option()?,
        })
    }

    fn tree_access(&mut self) -> Option<TreeAccess> {
        match self.byte()? {
            0 => Some(TreeAccess::Read),
            1 => Some(TreeAccess::Write),
            2 => Some(TreeAccess::ReadWrite),
            _ => None,
        }
    }

    fn rule(&mut self) -> Option<Rule> {
        Some(Rule {
            program: self.text()?.into(),
            arguments: self.list(|from| from.matcher(MAX_DEPTH))?.into(),
            working_directory: match self.byte()? {
                0 => None,
                1 => Some(self.relative()?),
                _ => return None,
            },
            environment: self.boxes()?,
        })
    }

    fn matcher(&mut self, depth: u8) -> Option<Matcher> {
        let depth = depth.checked_sub(1)?;
        Some(match self.byte()? {
            0 => Matcher::Literal(self.text()?.into()),
            1 => Matcher::OneOf(self.boxes()?),
            2 => Matcher::PathUnder(self.relative()?),
            3 => Matcher::Integer {
                min: self.number()?.cast_signed(),
                max: self.number()?.cast_signed(),
            },
            4 => Matcher::Text,
            5 => Matcher::Option {
                names: self.boxes()?,
                value: Box::new(self.matcher(depth)?),
            },
            6 => Matcher::AnyOf(self.list(|from| from.matcher(depth))?.into()),
            7 => Matcher::AnyNumberOf(Box::new(self.matcher(depth)?)),
            _ => return None,
        })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn length(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let bytes = self.take(8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    #[expect(clippy::option_option, reason = "unreadable is not absent")]
    fn option(&mut self) -> Option<Option<u64>> {
        match self.byte()? {
            0 => Some(None),
            1 => self.number().map(Some),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<String> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }

    fn relative(&mut self) -> Option<RelativePath> {
        let text = self.text()?;
        let parsed = RelativePath::parse(if text.is_empty() { "." } else { &text });
        parsed.ok().filter(|path| path.as_str() == text)
    }

    fn boxes(&mut self) -> Option<Box<[Box<str>]>> {
        let texts = self.list(Self::text)?;
        Some(texts.into_iter().map(Into::into).collect())
    }

    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.length()?;
        // No item is shorter than a byte: a false count takes no memory.
        let mut items = Vec::with_capacity(count.min(self.0.len()));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Some(items)
    }
}
