//! Lenient JSON reader: values of an unexpected type are skipped instead of rejected.
//!
//! Invariants
//! - skipped values are not stored: memory is bounded by what is read.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Reads one JSON value of any type.
pub(super) trait ReadJson<'de>: Sized {
    /// Result of the reading.
    type Out;

    /// Handles a value of an unexpected type.
    fn other<E: de::Error>(self) -> Result<Self::Out, E>;

    /// Handles null.
    fn null<E: de::Error>(self) -> Result<Self::Out, E> {
        self.other()
    }

    /// Handles a string.
    fn text<E: de::Error>(self, _text: &str) -> Result<Self::Out, E> {
        self.other()
    }

    /// Handles a number.
    fn number<E: de::Error>(self, _number: f64) -> Result<Self::Out, E> {
        self.other()
    }

    /// Handles a list.
    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Out, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.other()
    }

    /// Handles an object.
    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Out, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.other()
    }
}

/// Adapter from [`ReadJson`] to serde.
pub(super) struct Seed<R>(pub(super) R);

impl<'de, R: ReadJson<'de>> DeserializeSeed<'de> for Seed<R> {
    type Value = R::Out;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<R::Out, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, R: ReadJson<'de>> Visitor<'de> for Seed<R> {
    type Value = R::Out;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<R::Out, E> {
        self.0.null()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<R::Out, E> {
        self.0.other()
    }

    #[expect(clippy::cast_precision_loss, reason = "a score has a few digits")]
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<R::Out, E> {
        self.0.number(number as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "a score has a few digits")]
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<R::Out, E> {
        self.0.number(number as f64)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<R::Out, E> {
        self.0.number(number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<R::Out, E> {
        self.0.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<R::Out, A::Error> {
        self.0.list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<R::Out, A::Error> {
        self.0.object(object)
    }
}

/// Reads a string. Any other value is `None`.
pub(super) struct Text;

impl ReadJson<'_> for Text {
    type Out = Option<String>;

    fn other<E: de::Error>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn text<E: de::Error>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }
}

/// Reads a number. Any other value is `None`.
pub(super) struct Number;

impl ReadJson<'_> for Number {
    type Out = Option<f64>;

    fn other<E: de::Error>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }

    fn number<E: de::Error>(self, number: f64) -> Result<Option<f64>, E> {
        Ok(Some(number))
    }
}

/// Reads an object field by field into a [`Record`]. Any other value is the default.
pub(super) struct Fields<T>(PhantomData<T>);

/// A type that is read field by field.
pub(super) trait Record: Default {
    /// Reads one field.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, object: &mut A)
    -> Result<(), A::Error>;
}

impl<T> Fields<T> {
    /// Creates the reader.
    pub(super) fn seed() -> Seed<Self> {
        Seed(Self(PhantomData))
    }
}

impl<'de, T: Record> ReadJson<'de> for Fields<T> {
    type Out = T;

    fn other<E: de::Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<T, A::Error> {
        let mut record = T::default();
        while let Some(name) = object.next_key::<String>()? {
            record.field(&name, &mut object)?;
        }
        Ok(record)
    }
}

/// Reads a list of records and passes each to a function. Any other value is an empty list.
pub(super) struct EachRecord<T, F>(F, PhantomData<T>);

impl<T, F: FnMut(T)> EachRecord<T, F> {
    /// Creates the reader.
    pub(super) fn seed(f: F) -> Seed<Self> {
        Seed(Self(f, PhantomData))
    }
}

impl<'de, T: Record, F: FnMut(T)> ReadJson<'de> for EachRecord<T, F> {
    type Out = ();

    fn other<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(record) = list.next_element_seed(Fields::<T>::seed())? {
            (self.0)(record);
        }
        Ok(())
    }
}

/// Skips the value of a field.
pub(super) fn skip<'de, A: MapAccess<'de>>(object: &mut A) -> Result<(), A::Error> {
    object.next_value::<IgnoredAny>().map(drop)
}
