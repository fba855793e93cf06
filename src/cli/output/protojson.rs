//! Messages as protojson, for every message the daemon serves.
//!
//! Owns the mapping, driven by the descriptors: lowerCamelCase names in the
//! order of the proto, enums by name, 64-bit integers as strings, timestamps
//! and durations as text, absent what is default. One deviation: bytes are
//! hashes here, and are printed in hex.
//!
//! What people write is read by the same descriptors, strictly.
//!
//! Refuses to print a credential: the two fields that can hold one are never
//! part of the output, whatever an answer carries.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, Duration, EnumDescriptorProto, FieldDescriptorProto, FieldMask,
    FileDescriptorSet, MessageOptions, Timestamp,
};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

use crate::proto;

mod reading;

pub use reading::{Misread, from_json, read_json};

/// Never printed; see the module.
const CREDENTIALS: [&str; 2] = ["ephemeral_handle", "lease_id"];

/// A JSON value whose objects keep the order of the proto.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// Anything without members.
    Leaf(Value),
    /// `[…]`.
    Array(Vec<Json>),
    /// `{…}`.
    Object(Vec<(String, Json)>),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leaf(value) => value.serialize(serializer),
            Self::Array(items) => items.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// A message type by its name in the descriptors.
pub trait Described: Message {
    /// With a leading dot, as descriptors refer to it.
    const NAME: &'static str;
}

macro_rules! described {
    ($package:literal, $module:ident: $($message:ident),* $(,)?) => {
        $(impl Described for proto::$module::$message {
            const NAME: &'static str = concat!(".", $package, ".", stringify!($message));
        })*
    };
}

described!("episoded.session.v1", session: Session, Event, RegisterSessionResponse,
    GetSessionResponse, LookupSessionResponse, ListSessionsResponse, BindEpisodeResponse,
    RenewLeaseResponse, RotateHandleResponse, UpdateSessionResponse, HeartbeatSessionResponse,
    RequestStopResponse, TerminateSessionResponse, TerminateSessionsResponse,
    RemoveSessionResponse, ListEventsResponse, Refinement);
described!("episoded.admin.v1", admin: GetServerInfoResponse);
described!("episoded.firewall.v1", firewall: Verdict, ListAllowedResponse,
    ListRefinementsResponse, RefinementChange, ReissueContextResponse, GetManifestResponse,
    PutManifestResponse);
described!("episoded.keycache.v1", keycache: ListKeysResponse, CachedKey, StatusResponse);
described!("episoded.manifest.v1", manifest: Manifest, CommandRule);

/// A message as protojson.
pub fn to_json<M: Described>(message: &M) -> Json {
    message_json(M::NAME, &message.encode_to_vec())
        .expect("a message just encoded reads back with its own descriptor")
}

struct Schema {
    messages: HashMap<String, DescriptorProto>,
    enums: HashMap<String, EnumDescriptorProto>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let set =
        FileDescriptorSet::decode(proto::DESCRIPTORS).expect("build.rs wrote the descriptors");
    let mut schema = Schema {
        messages: HashMap::new(),
        enums: HashMap::new(),
    };
    for file in set.file {
        let scope = format!(".{}", file.package());
        for item in file.enum_type {
            schema
                .enums
                .insert(format!("{scope}.{}", item.name()), item);
        }
        for message in file.message_type {
            schema.add(&scope, message);
        }
    }
    schema
});

impl Schema {
    fn add(&mut self, scope: &str, message: DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested.clone());
        }
        for item in &message.enum_type {
            self.enums
                .insert(format!("{name}.{}", item.name()), item.clone());
        }
        self.messages.insert(name, message);
    }
}

/// One field's value as it lies on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The next field of an encoded message: its number and value.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Wire<'a>)> {
    let (number, wire_type) = decode_key(bytes).ok()?;
    let fixed = |bytes: &mut &'a [u8], size: usize| {
        let (head, tail) = bytes.split_at_checked(size)?;
        *bytes = tail;
        let mut value = [0; 8];
        value[..size].copy_from_slice(head);
        Some(Wire::Number(u64::from_le_bytes(value)))
    };
    let value = match wire_type {
        WireType::Varint => Some(Wire::Number(decode_varint(bytes).ok()?)),
        WireType::SixtyFourBit => fixed(bytes, 8),
        WireType::ThirtyTwoBit => fixed(bytes, 4),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(bytes).ok()?).unwrap_or(usize::MAX);
            bytes.split_at_checked(length).map(|(head, tail)| {
                *bytes = tail;
                Wire::Bytes(head)
            })
        }
        WireType::StartGroup | WireType::EndGroup => None,
    };
    Some((number, value?))
}

fn message_json(name: &str, bytes: &[u8]) -> Option<Json> {
    let text = match name {
        ".google.protobuf.Timestamp" => Timestamp::decode(bytes).ok()?.to_string(),
        ".google.protobuf.Duration" => duration_text(&Duration::decode(bytes).ok()?),
        ".google.protobuf.FieldMask" => FieldMask::decode(bytes).ok()?.paths.join(","),
        _ => return fields_json(name, bytes),
    };
    Some(Json::Leaf(text.into()))
}

fn fields_json(name: &str, bytes: &[u8]) -> Option<Json> {
    let descriptor = &SCHEMA.messages[name];
    let mut values: Vec<Option<Json>> = vec![None; descriptor.field.len()];
    let mut rest = bytes;
    while !rest.is_empty() {
        let (number, wire) = next_field(&mut rest)?;
        let known = |field: &FieldDescriptorProto| field.number() == number.cast_signed();
        let Some(at) = descriptor.field.iter().position(known) else {
            continue;
        };
        add(&descriptor.field[at], wire, &mut values[at])?;
    }
    let members = descriptor.field.iter().zip(values);
    let members = members.filter_map(|(field, value)| Some((field.json_name().to_owned(), value?)));
    Some(Json::Object(members.collect()))
}

/// Adds one occurrence of a field to what was read of it before.
fn add(field: &FieldDescriptorProto, wire: Wire<'_>, value: &mut Option<Json>) -> Option<()> {
    if CREDENTIALS.contains(&field.name()) {
        return Some(());
    }
    if let (Some(entry), Wire::Bytes(bytes)) = (map_entry(field), &wire) {
        let member = entry_json(entry, bytes)?;
        match value {
            Some(Json::Object(members)) => members.push(member),
            _ => *value = Some(Json::Object(vec![member])),
        }
        return Some(());
    }
    if field.label() != Label::Repeated {
        *value = Some(single(field, &wire)?);
        return Some(());
    }
    let items = match value.get_or_insert_with(|| Json::Array(Vec::new())) {
        Json::Array(items) => items,
        Json::Leaf(_) | Json::Object(_) => return None,
    };
    match wire {
        Wire::Bytes(mut packed) if is_varint(field.r#type()) => {
            while !packed.is_empty() {
                let number = Wire::Number(decode_varint(&mut packed).ok()?);
                items.push(single(field, &number)?);
            }
        }
        wire => items.push(single(field, &wire)?),
    }
    Some(())
}

fn map_entry(field: &FieldDescriptorProto) -> Option<&'static DescriptorProto> {
    let message = SCHEMA.messages.get(field.type_name())?;
    let is_entry = message
        .options
        .as_ref()
        .is_some_and(MessageOptions::map_entry);
    is_entry.then_some(message)
}

/// A map's entry; its key is text, as everywhere in these protos.
fn entry_json(entry: &DescriptorProto, bytes: &[u8]) -> Option<(String, Json)> {
    let mut key = String::new();
    let mut value = Json::Leaf("".into());
    let mut rest = bytes;
    while !rest.is_empty() {
        match next_field(&mut rest)? {
            (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, wire) => value = single(&entry.field[1], &wire)?,
            _ => {}
        }
    }
    Some((key, value))
}

fn is_varint(kind: Type) -> bool {
    matches!(
        kind,
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Bool | Type::Enum
    )
}

fn single(field: &FieldDescriptorProto, wire: &Wire<'_>) -> Option<Json> {
    let leaf = match (field.r#type(), wire) {
        (Type::Message, Wire::Bytes(bytes)) => return message_json(field.type_name(), bytes),
        (Type::String, Wire::Bytes(text)) => String::from_utf8_lossy(text).into(),
        (Type::Bytes, Wire::Bytes(bytes)) => hex(bytes).into(),
        (Type::Bool, Wire::Number(number)) => (*number != 0).into(),
        (Type::Enum, Wire::Number(number)) => enum_name(field.type_name(), *number as i32),
        (Type::Int32, Wire::Number(number)) => (*number as i32).into(),
        (Type::Uint32, Wire::Number(number)) => (*number as u32).into(),
        (Type::Int64, Wire::Number(number)) => number.cast_signed().to_string().into(),
        (Type::Uint64, Wire::Number(number)) => number.to_string().into(),
        _ => return None,
    };
    Some(Json::Leaf(leaf))
}

/// By name; a number that a newer daemon added stays one, as protojson has it.
fn enum_name(name: &str, number: i32) -> Value {
    let values = SCHEMA.enums[name].value.iter();
    values
        .filter(|value| value.number() == number)
        .map(|value| value.name().into())
        .next()
        .unwrap_or_else(|| number.into())
}

/// `1.5s`: no more digits than it takes.
pub fn duration_text(duration: &Duration) -> String {
    let text = duration.to_string();
    let number = text.trim_end_matches('s');
    if number.contains('.') {
        return format!("{}s", number.trim_end_matches('0').trim_end_matches('.'));
    }
    text
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
