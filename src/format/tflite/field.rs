//! How one field of a table is read and written, by its type; and the schema's enums, which are
//! such types.

use super::Result;
use crate::format::flatbuffer::{Scalar, Table, TableValue};

/// A type that a field of a table can have.
pub trait Field: Sized {
    fn read(table: &Table, id: u16, default: Self) -> Result<Self>;
    /// Leaves the field out when it equals the schema's default.
    fn write(&self, table: &mut TableValue, id: u16, default: Self);
}

macro_rules! scalar_fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(table: &Table, id: u16, default: Self) -> Result<Self> {
                Ok(table.scalar(id, default)?)
            }

            fn write(&self, table: &mut TableValue, id: u16, default: Self) {
                table.scalar(id, *self, default);
            }
        }
    )*};
}
scalar_fields!(bool, i32, u32, i64, f32);

impl<T: Scalar> Field for Vec<T> {
    fn read(table: &Table, id: u16, _default: Self) -> Result<Self> {
        Ok(table.scalars(id)?)
    }

    fn write(&self, table: &mut TableValue, id: u16, _default: Self) {
        table.scalars_if_any(id, self);
    }
}

impl Field for String {
    fn read(table: &Table, id: u16, _default: Self) -> Result<Self> {
        Ok(table.text(id)?.to_owned())
    }

    fn write(&self, table: &mut TableValue, id: u16, _default: Self) {
        table.text_if_any(id, self);
    }
}

/// An enum with the schema's numbers. Expects `Field` and what its methods name in scope.
macro_rules! schema_enum {
    ($(#[$doc:meta])* $name:ident: $repr:ty {
        $first:ident = 0 $(, $variant:ident = $code:literal)* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name {
            #[default]
            $first = 0,
            $($variant = $code,)*
        }

        impl $name {
            pub fn from_code(code: $repr) -> Option<Self> {
                match code {
                    0 => Some(Self::$first),
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            pub fn code(self) -> $repr {
                self as $repr
            }
        }

        impl Field for $name {
            fn read(table: &Table, id: u16, default: Self) -> Result<Self> {
                let code = table.scalar(id, default.code())?;
                let what = stringify!($name);
                let unknown = TfliteError::UnknownCode { what, code: code.into() };
                Self::from_code(code).ok_or(unknown)
            }

            fn write(&self, table: &mut TableValue, id: u16, default: Self) {
                table.scalar(id, self.code(), default.code());
            }
        }
    };
}

pub(super) use schema_enum;
