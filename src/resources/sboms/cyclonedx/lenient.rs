//! Reading JSON that may hold anything anywhere: what is not of the kind that is looked for is passed over.
//!
//! Invariants
//! - what is passed over is not kept: memory is bounded by what is taken.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Reads one value, of whatever kind it is.
pub(super) trait Read<'de>: Sized {
    /// What comes of it.
    type Out;

    /// A value that is not of the kind that is looked for.
    fn other<E: de::Error>(self) -> Result<Self::Out, E>;

    /// null.
    fn null<E: de::Error>(self) -> Result<Self::Out, E> {
        self.other()
    }

    /// A text.
    fn text<E: de::Error>(self, _text: &str) -> Result<Self::Out, E> {
        self.other()
    }

    /// A number.
    fn number<E: de::Error>(self, _number: f64) -> Result<Self::Out, E> {
        self.other()
    }

    /// A list.
    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Out, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.other()
    }

    /// An object.
    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Out, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.other()
    }
}

/// A reader, as serde has it.
pub(super) struct As<R>(pub(super) R);

impl<'de, R: Read<'de>> DeserializeSeed<'de> for As<R> {
    type Value = R::Out;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<R::Out, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, R: Read<'de>> Visitor<'de> for As<R> {
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

/// A text; of any other value none.
pub(super) struct Text;

impl Read<'_> for Text {
    type Out = Option<String>;

    fn other<E: de::Error>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn text<E: de::Error>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }
}

/// A number; of any other value none.
pub(super) struct Number;

impl Read<'_> for Number {
    type Out = Option<f64>;

    fn other<E: de::Error>(self) -> Result<Option<f64>, E> {
        Ok(None)
    }

    fn number<E: de::Error>(self, number: f64) -> Result<Option<f64>, E> {
        Ok(Some(number))
    }
}

/// The fields of an object that a type of ours names, each a value of any kind; of any other value the default.
pub(super) struct Fields<T>(PhantomData<T>);

/// What is read field by field.
pub(super) trait Record: Default {
    /// Takes one field.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, object: &mut A)
    -> Result<(), A::Error>;
}

impl<T> Fields<T> {
    /// Reads one.
    pub(super) fn of() -> As<Self> {
        As(Self(PhantomData))
    }
}

impl<'de, T: Record> Read<'de> for Fields<T> {
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

/// A list of records, each given to a function; any other value is an empty list.
pub(super) struct Each<T, F>(F, PhantomData<T>);

impl<T, F: FnMut(T)> Each<T, F> {
    /// Reads one.
    pub(super) fn of(f: F) -> As<Self> {
        As(Self(f, PhantomData))
    }
}

impl<'de, T: Record, F: FnMut(T)> Read<'de> for Each<T, F> {
    type Out = ();

    fn other<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(record) = list.next_element_seed(Fields::<T>::of())? {
            (self.0)(record);
        }
        Ok(())
    }
}

/// Passes over a value.
pub(super) fn skip<'de, A: MapAccess<'de>>(object: &mut A) -> Result<(), A::Error> {
    object.next_value::<IgnoredAny>().map(drop)
}
