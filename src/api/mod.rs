//! The only room that knows poem and OpenAI's wire shape.

pub mod auth;
pub mod cors;
pub mod limits;
