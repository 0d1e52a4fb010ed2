//! Parameters of statements that are sent without a name.
//!
//! A named statement belongs to one connection of the server, and a proxy that pools transactions gives each one another
//! connection: it refuses named statements, or pins the client. A statement without a name is parsed, bound and run in
//! one round trip, also the first time, if the client says which types its parameters have. The price is that the server
//! plans it each time. So a statement on `events` must name the days that it needs as parameters of their own: then
//! only the partitions of these days are planned for and locked, not every one there is.

use std::net::IpAddr;

use time::{Date, OffsetDateTime};
use tokio_postgres::types::{ToSql, Type};

/// A value and the type with which it is sent.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);
pub(crate) type Parameters<'a, const N: usize> = [Parameter<'a>; N];

/// A type whose values are always sent as one type of Postgres.
pub(crate) trait SqlType: ToSql + Sync {
    const TYPE: Type;
}

pub(crate) fn parameter<T: SqlType>(value: &T) -> Parameter<'_> {
    (value, T::TYPE)
}

/// One value, and a column of values.
macro_rules! sql_types {
    ($($rust:ty: $one:ident, $column:ident;)*) => {$(
        impl SqlType for $rust {
            const TYPE: Type = Type::$one;
        }
        impl SqlType for Vec<$rust> {
            const TYPE: Type = Type::$column;
        }
        impl SqlType for Vec<Option<$rust>> {
            const TYPE: Type = Type::$column;
        }
    )*};
}

sql_types! {
    i16: INT2, INT2_ARRAY;
    i32: INT4, INT4_ARRAY;
    i64: INT8, INT8_ARRAY;
    &str: TEXT, TEXT_ARRAY;
    String: TEXT, TEXT_ARRAY;
    &[u8]: BYTEA, BYTEA_ARRAY;
    IpAddr: INET, INET_ARRAY;
    Date: DATE, DATE_ARRAY;
    OffsetDateTime: TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
}
