//! The type of every column of a row type, found by reading a row from a reader that only asks what is wanted.

use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::Kind;

/// The type that `Row` reads from each of the named columns; `None` for columns that it does not read.
pub fn kinds<'de, Row: Deserialize<'de>>(columns: &'de [String]) -> Vec<Option<Kind>> {
    let mut found = vec![None; columns.len()];
    Row::deserialize(Asked { columns, found: &mut found, at: 0 }).expect("a row of empty cells");
    found
}

/// A row with an empty cell in each column, which records the type that is asked of it.
struct Asked<'de, 'b> {
    columns: &'de [String],
    found: &'b mut [Option<Kind>],
    at: usize,
}

impl<'de> Deserializer<'de> for Asked<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Asked<'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(column) = self.columns.get(self.at) else { return Ok(None) };
        let name: StrDeserializer<Error> = column.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.at += 1;
        seed.deserialize(Cell(&mut self.found[self.at - 1]))
    }
}

struct Cell<'b>(&'b mut Option<Kind>);

/// One method for each type that can be asked: what is recorded, and the empty value that is given.
macro_rules! asked {
    ($($method:ident => $kind:expr, $visit:ident($value:expr);)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            *self.0 = $kind;
            visitor.$visit($value)
        })+
    };
}

impl<'de> Deserializer<'de> for Cell<'_> {
    type Error = Error;

    asked! {
        deserialize_bool => Some(Kind::Boolean), visit_bool(false);
        deserialize_i64 => Some(Kind::Integer), visit_i64(0);
        deserialize_u8 => Some(Kind::Integer), visit_u8(0);
        deserialize_u16 => Some(Kind::Integer), visit_u16(0);
        deserialize_u32 => Some(Kind::Integer), visit_u32(0);
        deserialize_u64 => Some(Kind::Integer), visit_u64(0);
        deserialize_f32 => Some(Kind::Number), visit_f32(0.0);
        deserialize_f64 => Some(Kind::Number), visit_f64(0.0);
        deserialize_str => Some(Kind::Text), visit_str("");
        deserialize_string => Some(Kind::Text), visit_str("");
        deserialize_any => Some(Kind::Text), visit_str("");
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = Some(Kind::Text);
        let variant: StrDeserializer<Error> = variants[0].into_deserializer();
        visitor.visit_enum(variant)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 char bytes byte_buf unit unit_struct newtype_struct seq tuple tuple_struct map struct
        identifier
    }
}
