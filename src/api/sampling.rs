//! Rules for sampling parameters that several requests share.

use indexmap::IndexMap;

use super::{error::ApiError, wire::TextOr};

/// Texts that one request may give as `stop`.
const MOST_STOPS: usize = 4;

/// `logit_bias` maps token ids, written as strings, to values from -100 to 100.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::ref_option,
    reason = "garde hands fields over like this"
)]
pub(crate) fn bias_in_range(bias: &Option<IndexMap<String, f64>>, (): &()) -> garde::Result {
    for (token, value) in bias.iter().flatten() {
        if token.parse::<u32>().is_err() {
            return Err(garde::Error::new(format!("'{token}' is not a token id")));
        }
        if !(-100.0..=100.0).contains(value) {
            return Err(garde::Error::new(format!("the bias of token {token} must be from -100 to 100")));
        }
    }
    Ok(())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::ref_option,
    reason = "garde hands fields over like this"
)]
pub(crate) fn few_stops(stop: &Option<TextOr<String>>, (): &()) -> garde::Result {
    match stop {
        Some(TextOr::List(texts)) if texts.len() > MOST_STOPS => {
            Err(garde::Error::new(format!("has {} texts, but may have {MOST_STOPS}", texts.len())))
        }
        _ => Ok(()),
    }
}

/// The token ids and their biases.
pub(crate) fn bias(bias: Option<IndexMap<String, f64>>) -> Result<Vec<(u32, f64)>, ApiError> {
    let id = |token: &str| {
        token.parse().map_err(|_| ApiError::invalid("logit_bias", format!("'{token}' is not a token id.")))
    };
    bias.into_iter().flatten().map(|(token, value)| Ok((id(&token)?, value))).collect()
}

pub(crate) fn stops(stop: Option<TextOr<String>>) -> Vec<String> {
    match stop {
        None => vec![],
        Some(TextOr::Text(text)) => vec![text],
        Some(TextOr::List(texts)) => texts,
    }
}

/// Refuses stream options where nothing is streamed, as OpenAI does.
pub(crate) fn stream_options_need_stream(stream: bool, options: bool) -> Result<(), ApiError> {
    if options && !stream {
        let message = "'stream_options' is only allowed when 'stream' is true.";
        return Err(ApiError::invalid("stream_options", message));
    }
    Ok(())
}
