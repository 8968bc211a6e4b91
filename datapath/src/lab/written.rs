//! Scalars and lists as a lab file has them: the text as written, and where it is.
//!
//! Reading a scalar is put off until the checks run, so that one run reports every value that is
//! wrong, not only the first.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::Position;
use super::scalar::{Scalar, Text};

/// A scalar as written, to be read as a `T`.
pub struct Written<T> {
    /// The text, without quotes.
    pub text: String,
    /// Where it is.
    pub at: Position,
    kind: PhantomData<fn() -> T>,
}

impl<T> Written<T> {
    /// A scalar of which only text and place are known.
    pub(crate) fn new(text: String, at: Position) -> Self {
        Self { text, at, kind: PhantomData }
    }
}

impl<T> fmt::Debug for Written<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}:{}", self.text, self.at.line, self.at.column)
    }
}

impl<T> Clone for Written<T> {
    fn clone(&self) -> Self {
        Self::new(self.text.clone(), self.at)
    }
}

impl<'de, T> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self::new(value, referenced.into()))
    }
}

impl<T: Scalar> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// A list, and where it is; nothing after the key is an empty list.
#[derive(Clone, Debug)]
pub struct List<T> {
    /// Its entries, in file order.
    pub items: Vec<T>,
    /// Where it begins.
    pub at: Position,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), at: Position::START }
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } =
            Spanned::<Option<Vec<T>>>::deserialize(deserializer)?;
        Ok(Self { items: value.unwrap_or_default(), at: referenced.into() })
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}

/// One scalar, or a list of them.
#[derive(Debug)]
pub struct OneOrMany<T> {
    /// The scalars, in file order.
    pub items: Vec<Written<T>>,
    /// Where they begin.
    pub at: Position,
}

impl<T> Clone for OneOrMany<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), at: self.at }
    }
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self { items: Vec::new(), at: Position::START }
    }
}

impl<'a, T> IntoIterator for &'a OneOrMany<T> {
    type Item = &'a Written<T>;
    type IntoIter = std::slice::Iter<'a, Written<T>>;
    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<'de, T> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Items>::deserialize(deserializer)?;
        let at = referenced.into();
        let items = match value {
            Items::One(text) => vec![Written::new(text, at)],
            Items::Many(many) => many.into_iter().map(|w| Written::new(w.text, w.at)).collect(),
        };
        Ok(Self { items, at })
    }
}

impl<T: Scalar> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::schema();
        let many = Vec::<Written<T>>::json_schema(generator);
        let mut schema = Schema::default();
        schema.insert("anyOf".to_owned(), vec![one.to_value(), many.to_value()].into());
        schema
    }
}

/// What [`OneOrMany`] finds.
enum Items {
    One(String),
    Many(Vec<Written<Text>>),
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Items;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of values")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Items, E> {
                Ok(Items::One(v.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Items, E> {
                Ok(Items::One(v.to_string()))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Items, E> {
                Ok(Items::One(v.to_string()))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Items, E> {
                Ok(Items::One(v.to_string()))
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<Items, E> {
                Ok(Items::One(v.to_string()))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Items, E> {
                Ok(Items::Many(Vec::new()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Items::Many(items))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A map from an ID to a body, in file order.
#[derive(Clone, Debug)]
pub struct Keyed<V> {
    /// The entries, in file order.
    pub items: Vec<(Written<Text>, V)>,
    /// Where the map begins.
    pub at: Position,
}

impl<V> Default for Keyed<V> {
    fn default() -> Self {
        Self { items: Vec::new(), at: Position::START }
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Keyed<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } =
            Spanned::<Option<Entries<V>>>::deserialize(deserializer)?;
        let items = value.map(|entries| entries.0).unwrap_or_default();
        Ok(Self { items, at: referenced.into() })
    }
}

impl<V: JsonSchema> JsonSchema for Keyed<V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Keyed".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        std::collections::BTreeMap::<String, V>::json_schema(generator)
    }
}

/// What [`Keyed`] finds.
struct Entries<V>(Vec<(Written<Text>, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Map<V> {
            type Value = Entries<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from an ID to its body")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Map(PhantomData))
    }
}
