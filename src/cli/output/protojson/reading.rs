//! Protojson as people write it, read strictly.
//!
//! Owns the way from a JSON text to a message, driven by the descriptors. Takes
//! the names of fields as protojson prints them or as the proto has them, enums by
//! their name with or without its prefix, 64-bit numbers as numbers or texts,
//! bytes in hex. Refuses an unknown field, a field given twice, another type, two
//! members of a choice of one, and `null`. Times and durations are not read.

use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Described, Json, SCHEMA, map_entry};

/// Why a JSON document is not a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// Where, as `entries[3].path`; empty for the whole.
    pub place: String,
    /// What is wrong there.
    pub what: String,
    /// What may stand there, if that is a list.
    pub hint: Option<String>,
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.what),
            place => write!(f, "{place} {}", self.what),
        }
    }
}

type Result<T> = std::result::Result<T, Misread>;

/// The message that a JSON document says, or all that is wrong with it.
pub fn from_json<M: Described + Default>(json: &Json) -> std::result::Result<M, Vec<Misread>> {
    let (message, faults) = read_json(json);
    if faults.is_empty() {
        Ok(message)
    } else {
        Err(faults)
    }
}

/// What of a message a JSON document says, and all that is wrong with the rest.
pub fn read_json<M: Described + Default>(json: &Json) -> (M, Vec<Misread>) {
    let mut to = Encoding::default();
    to.message(M::NAME, json, "");
    let message = M::decode(to.bytes.as_slice()).unwrap_or_else(|_| {
        to.faults.push(misread("", "is nested too deep"));
        M::default()
    });
    (message, to.faults)
}

/// A message in the making.
#[derive(Default)]
struct Encoding {
    bytes: Vec<u8>,
    faults: Vec<Misread>,
}

impl Encoding {
    fn message(&mut self, name: &str, json: &Json, place: &str) {
        let Json::Object(members) = json else {
            self.faults.push(wrong(place, "an object", json));
            return;
        };
        let descriptor = &SCHEMA.messages[name];
        let mut seen: Vec<&FieldDescriptorProto> = Vec::with_capacity(members.len());
        for (key, value) in members {
            let place = match place {
                "" => key.clone(),
                place => format!("{place}.{key}"),
            };
            let Some(field) = field(descriptor, key) else {
                self.faults.push(unknown(descriptor, &place));
                continue;
            };
            if let Some(other) = seen.iter().find(|other| excludes(field, other)) {
                let what = format!("stands beside {}: only one may", other.json_name());
                self.faults.push(misread(&place, what));
            }
            seen.push(field);
            self.put(field, value, &place);
        }
    }

    fn put(&mut self, field: &FieldDescriptorProto, json: &Json, place: &str) {
        if let Some(entry) = map_entry(field) {
            let Json::Object(members) = json else {
                self.faults.push(wrong(place, "an object", json));
                return;
            };
            for (key, value) in members {
                let name = Json::Leaf(key.as_str().into());
                self.nested(field, |to| {
                    to.single(&entry.field[0], &name, place);
                    to.single(&entry.field[1], value, &format!("{place}.{key}"));
                });
            }
            return;
        }
        if field.label() != Label::Repeated {
            self.single(field, json, place);
            return;
        }
        let Json::Array(items) = json else {
            self.faults.push(wrong(place, "a list", json));
            return;
        };
        for (at, item) in items.iter().enumerate() {
            self.single(field, item, &format!("{place}[{at}]"));
        }
    }

    fn single(&mut self, field: &FieldDescriptorProto, json: &Json, place: &str) {
        if field.r#type() == Type::Message {
            self.nested(field, |to| to.message(field.type_name(), json, place));
        } else if let Err(misread) = scalar(field, json, place, &mut self.bytes) {
            self.faults.push(misread);
        }
    }

    /// A message within this one, behind its length.
    fn nested(&mut self, field: &FieldDescriptorProto, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        delimited(field, &inner.bytes, &mut self.bytes);
        self.faults.append(&mut inner.faults);
    }
}

fn misread(place: &str, what: impl Into<String>) -> Misread {
    Misread {
        place: place.to_owned(),
        what: what.into(),
        hint: None,
    }
}

fn wrong(place: &str, wanted: &str, json: &Json) -> Misread {
    let got = match json {
        Json::Object(_) => "an object",
        Json::Array(_) => "a list",
        Json::Leaf(Value::String(_)) => "text",
        Json::Leaf(Value::Number(_)) => "a number",
        Json::Leaf(Value::Bool(_)) => "true or false",
        Json::Leaf(_) => "null",
    };
    misread(place, format!("must be {wanted}, not {got}"))
}

fn field<'a>(descriptor: &'a DescriptorProto, key: &str) -> Option<&'a FieldDescriptorProto> {
    let mut fields = descriptor.field.iter();
    fields.find(|field| field.json_name() == key || field.name() == key)
}

fn unknown(descriptor: &DescriptorProto, place: &str) -> Misread {
    let names = descriptor.field.iter().map(FieldDescriptorProto::json_name);
    let names: Vec<&str> = names.collect();
    let hint = match names[..] {
        [] => "nothing stands there".to_owned(),
        _ => format!("what may stand there: {}", names.join(", ")),
    };
    Misread {
        hint: Some(hint),
        ..misread(place, "is not known")
    }
}

/// Whether the two are one field, or of one choice.
fn excludes(field: &FieldDescriptorProto, other: &FieldDescriptorProto) -> bool {
    let choice = |field: &FieldDescriptorProto| {
        let is_real = !field.proto3_optional();
        field.oneof_index.filter(|_| is_real)
    };
    field.number == other.number || choice(field).is_some_and(|of| choice(other) == Some(of))
}

fn scalar(field: &FieldDescriptorProto, json: &Json, place: &str, out: &mut Vec<u8>) -> Result<()> {
    match field.r#type() {
        Type::String => delimited(field, text(json, place, "text")?.as_bytes(), out),
        Type::Bytes => delimited(field, &hex(json, place)?, out),
        Type::Bool => match json {
            Json::Leaf(Value::Bool(value)) => varint(field, u64::from(*value), out),
            _ => return Err(wrong(place, "true or false", json)),
        },
        Type::Enum => {
            let number = enum_number(field.type_name(), text(json, place, "a name")?, place)?;
            varint(field, i64::from(number).cast_unsigned(), out);
        }
        Type::Int32 => integer::<i32>(field, json, place, out)?,
        Type::Uint32 => integer::<u32>(field, json, place, out)?,
        Type::Int64 => integer::<i64>(field, json, place, out)?,
        Type::Uint64 => integer::<u64>(field, json, place, out)?,
        _ => return Err(misread(place, "cannot be given")),
    }
    Ok(())
}

fn delimited(field: &FieldDescriptorProto, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(
        field.number().cast_unsigned(),
        WireType::LengthDelimited,
        out,
    );
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(field: &FieldDescriptorProto, value: u64, out: &mut Vec<u8>) {
    encode_key(field.number().cast_unsigned(), WireType::Varint, out);
    encode_varint(value, out);
}

fn text<'a>(json: &'a Json, place: &str, wanted: &str) -> Result<&'a str> {
    match json {
        Json::Leaf(Value::String(text)) => Ok(text),
        _ => Err(wrong(place, wanted, json)),
    }
}

fn hex(json: &Json, place: &str) -> Result<Vec<u8>> {
    let text = text(json, place, "hexadecimal digits")?;
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => Ok(digits
            .chunks(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect()),
        _ => Err(misread(place, "must be hexadecimal digits, two a byte")),
    }
}

/// By its name, with or without the prefix that its siblings share.
fn enum_number(name: &str, text: &str, place: &str) -> Result<i32> {
    let values = &SCHEMA.enums[name].value;
    let zero = values.first().map_or("", |value| value.name());
    let prefix = zero.strip_suffix("UNSPECIFIED").unwrap_or_default();
    let short = |name: &'static str| name.strip_prefix(prefix).unwrap_or(name);
    let known = values.iter().filter(|value| value.number() != 0);
    let known: Vec<_> = known.map(|value| (short(value.name()), value)).collect();
    let found = known
        .iter()
        .find(|(short, v)| *short == text || v.name() == text);
    if let Some((_, value)) = found {
        return Ok(value.number());
    }
    let names: Vec<&str> = known.iter().map(|(short, _)| *short).collect();
    Err(Misread {
        hint: Some(format!("one of {}", names.join(", "))),
        ..misread(place, format!("is not known: {text}"))
    })
}

fn integer<N: TryFrom<i128>>(
    field: &FieldDescriptorProto,
    json: &Json,
    place: &str,
    out: &mut Vec<u8>,
) -> Result<()> {
    let number = match json {
        Json::Leaf(Value::Number(number)) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from)),
        Json::Leaf(Value::String(text)) => {
            let number = text.parse::<i128>().ok();
            number.filter(|number| number.to_string() == *text)
        }
        _ => return Err(wrong(place, "a whole number", json)),
    };
    match number.filter(|number| N::try_from(*number).is_ok()) {
        Some(number) => {
            varint(field, number as u64, out);
            Ok(())
        }
        None => Err(misread(place, "must be a whole number that fits")),
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Json, E> {
        Ok(Json::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Json, E> {
        Ok(Json::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Json, E> {
        Ok(Json::Leaf(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Json, E> {
        Ok(Json::Leaf(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Json, E> {
        Ok(Json::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> std::result::Result<Json, E> {
        Ok(Json::Leaf(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if members.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format!("the key `{key}` is there twice")));
            }
            members.push((key, map.next_value()?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests;
