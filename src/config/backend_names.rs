//! Which names `backend` takes.

use serde::{
    Deserialize,
    de::{IntoDeserializer, value},
};

use super::suggest;
use crate::backend::Kind;

/// Backends that this build may not have, under each of their names. The predecessor answered with echo for those
/// that it did not know; here they are refused.
const KNOWN: [(&str, &str); 2] = [("candle", "candle"), ("transformers", "candle")];

/// Why the name is refused; `None` when this build has the backend, be it by an alias of its variant.
pub(super) fn refusal(name: &str) -> Option<String> {
    let written: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
    if Kind::deserialize(written).is_ok() {
        return None;
    }
    let here: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let has = here.join(", ");
    Some(match KNOWN.iter().find(|(known, _)| *known == name) {
        Some((_, backend)) => format!("this build does not have the {backend} backend; it has: {has}"),
        None => match suggest::nearest(name, here) {
            Some(right) => format!("unknown backend {name:?}; did you mean `{right}`?"),
            None => format!("unknown backend {name:?}; this build has: {has}"),
        },
    })
}
