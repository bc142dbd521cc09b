//! The encoder most architectures are a variation of: BERT's names, a norm after attention and after feed-forward, learned
//! positions. Names are data; the rest is edited in the description. And which encoders there are.

use super::{
    base::{Base, plain_mlp},
    bert, distilbert, modernbert, mpnet, nomic_bert, roberta,
};
use crate::{
    kernels::{activation::Activation, norm::NormKind},
    model::{
        config::{Config, ConfigError},
        description::{FeedForward, Linear, Mlp, Norm, Projections, Up},
        encoder::description::{Classifier, Description, Embedding, Layer, Place},
        pooling::Mode,
    },
};

/// Makes a description of a configuration, for at most so many tokens and, where that is wanted, with its classifier.
type Describe = fn(&Wanted<'_>) -> Result<Description, ConfigError>;

/// `model_type` of `config.json`, and what reads the rest of it.
const TABLE: &[(&str, Describe)] = &[
    ("bert", bert::describe),
    ("camembert", roberta::describe),
    ("distilbert", distilbert::describe),
    ("modernbert", modernbert::describe),
    ("mpnet", mpnet::describe),
    ("nomic_bert", nomic_bert::describe),
    ("roberta", roberta::describe),
    ("xlm-roberta", roberta::describe),
];

/// What a description is made of.
pub(super) struct Wanted<'a> {
    pub(super) config: &'a Config,
    /// Tokens that will be served at most.
    pub(super) context_length: Option<usize>,
    pub(super) classifies: bool,
}

/// `model_type`s of encoders that can be loaded.
#[must_use]
pub fn supported_encoders() -> Vec<&'static str> {
    TABLE.iter().map(|(name, _)| *name).collect()
}

/// Whether the configuration is of an encoder that is known.
///
/// # Errors
/// When it does not say what it is of.
pub(in crate::model) fn is_encoder(config: &Config) -> Result<bool, ConfigError> {
    let found = config.model_type()?;
    Ok(TABLE.iter().any(|(name, _)| *name == found))
}

/// Whether the model was trained to tell labels.
///
/// # Errors
/// When `architectures` is no list of names.
pub(in crate::model) fn classifies(config: &Config) -> Result<bool, ConfigError> {
    let names = config.texts("architectures")?.unwrap_or_default();
    Ok(names.iter().any(|name| name.ends_with("ForSequenceClassification")))
}

/// The description of an encoder.
///
/// # Errors
/// When the architecture is not supported, or a key is missing or wrong.
pub(in crate::model) fn describe_encoder(
    config: &Config,
    context_length: Option<usize>,
    classifies: bool,
) -> Result<Description, ConfigError> {
    let found = config.model_type()?;
    let Some((_, describe)) = TABLE.iter().find(|(name, _)| *name == found) else {
        let supported = supported_encoders();
        return Err(ConfigError::Architecture { found: found.to_owned(), supported });
    };
    if config.has("quantization_config") {
        return Err(ConfigError::Unsupported(format!("a quantized checkpoint of {found}")));
    }
    describe(&Wanted { config, context_length, classifies })
}

/// What tensors are called, behind the prefix and behind a layer's name.
pub(super) struct Names {
    pub(super) prefix: &'static str,
    /// Between the prefix and a layer's number.
    pub(super) layers: &'static str,
    pub(super) projections: [&'static str; 3],
    pub(super) output: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) mlp_norm: &'static str,
}

pub(super) const BERT: Names = Names {
    prefix: "bert.",
    layers: "encoder.layer.",
    projections: ["attention.self.query", "attention.self.key", "attention.self.value"],
    output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    mlp_norm: "output.LayerNorm",
};

impl Wanted<'_> {
    /// An encoder like BERT. Position 0 has row `first` of the table of positions.
    pub(super) fn describe(
        &self,
        names: &Names,
        first: usize,
        activation: Activation,
    ) -> Result<Description, ConfigError> {
        let config = self.config;
        let hidden = config.size(&["hidden_size", "dim", "n_embd"])?;
        let heads = config.size(&["num_attention_heads", "n_heads", "n_head"])?;
        if !hidden.is_multiple_of(heads) {
            return Err(ConfigError::Unsupported(format!("{heads} heads of a width of {hidden}")));
        }
        let count = config.size(&["num_hidden_layers", "n_layers", "n_layer"])?;
        let inner = config.size(&["intermediate_size", "hidden_dim", "n_inner"])?;
        let prefix = names.prefix;
        let layer = |i: usize| -> Result<Layer, ConfigError> {
            let name = format!("{prefix}{}{i}.", names.layers);
            let linear = |suffix: &str| Linear::new(format!("{name}{suffix}"), true);
            let [query, key, value] = names.projections.map(linear);
            let FeedForward::Dense(mlp) = plain_mlp(&name, [names.up, names.down], inner, true) else {
                return Err(ConfigError::Unsupported("experts in an encoder".to_owned()));
            };
            Ok(Layer {
                projections: Projections::Separate { query, key, value },
                output: linear(names.output),
                rotary: None,
                window: None,
                attention_norm: Place::After(self.norm(format!("{name}{}", names.attention_norm))?),
                mlp,
                activation,
                mlp_norm: Place::After(self.norm(format!("{name}{}", names.mlp_norm))?),
            })
        };
        let table = |name: &str| format!("{prefix}embeddings.{name}");
        Ok(Description {
            vocabulary: config.size(&["vocab_size"])?,
            hidden,
            heads,
            context_length: self.context(first)?,
            prefix,
            embedding: Embedding {
                tokens: table("word_embeddings"),
                positions: Some((table("position_embeddings"), first)),
                types: None,
                norm: Some(self.norm(table("LayerNorm"))?),
            },
            rotary: vec![],
            bias: None,
            layers: (0..count).map(layer).collect::<Result<_, _>>()?,
            norm: None,
            classifier: None,
        })
    }

    pub(super) fn activation(&self) -> Result<Activation, ConfigError> {
        Base { activation: "gelu", ..Base::new(self.config, 0) }.activation()
    }

    /// Tokens that are served: at most as many as there are positions behind the `first`.
    pub(super) fn context(&self, first: usize) -> Result<usize, ConfigError> {
        let keys = ["max_position_embeddings", "n_positions"];
        let longest = self.config.size(&keys)?.saturating_sub(first);
        Ok(self.context_length.map_or(longest, |wanted| wanted.min(longest)))
    }

    pub(super) fn norm(&self, name: impl Into<String>) -> Result<Norm, ConfigError> {
        let mut eps = 1e-12;
        for key in ["layer_norm_eps", "layer_norm_epsilon", "norm_eps"] {
            eps = self.config.number_or(key, eps)?;
        }
        Ok(Norm { name: Some(name.into()), kind: NormKind::Layer, eps, bias: true, unit_offset: false })
    }

    /// Types of tokens, where the configuration has some.
    pub(super) fn types(&self, name: &str) -> Result<Option<(String, usize)>, ConfigError> {
        let rows = self.config.find_size(&["type_vocab_size"])?.filter(|rows| *rows > 0);
        Ok(rows.map(|rows| (name.to_owned(), rows)))
    }

    /// The classifier, where one is wanted: the first token's row through `dense`, then `output`.
    pub(super) fn classifier(
        &self,
        dense: &str,
        activation: Activation,
        output: &str,
    ) -> Result<Option<Classifier>, ConfigError> {
        if !self.classifies {
            return Ok(None);
        }
        let labels = match self.config.object("id2label")? {
            Some(labels) => labels.len(),
            // Not written where there are as many as transformers takes for granted.
            None => self.config.find_size(&["num_labels"])?.unwrap_or(2),
        };
        Ok(Some(Classifier {
            mode: Mode::Cls,
            dense: Linear::new(dense, true),
            activation,
            norm: None,
            output: Linear::new(output, true),
            labels,
            sigmoid: labels == 1 && self.sigmoid()?,
        }))
    }

    /// What sentence-transformers does with a single score: a sigmoid, unless the configuration says otherwise.
    fn sigmoid(&self) -> Result<bool, ConfigError> {
        let own = self.config.object("sentence_transformers")?.unwrap_or_default();
        let name = match own.text("activation_fn")? {
            Some(name) => Some(name),
            None => self.config.text("sbert_ce_default_activation_function")?,
        };
        match name.map(|name| name.rsplit('.').next().unwrap_or_default()) {
            None | Some("Sigmoid") => Ok(true),
            Some("Identity") => Ok(false),
            Some(other) => Err(ConfigError::Unsupported(format!("activation {other:?} of scores"))),
        }
    }
}

/// A feed-forward with a gate: the gate's rows and those of its input in one tensor.
pub(super) fn fused_mlp(name: &str, [up, down]: [&str; 2], inner: usize, biases: [bool; 2]) -> Mlp {
    let up = Up::FusedGated(Linear::new(format!("{name}{up}"), biases[0]));
    Mlp { inner, up, down: Linear::new(format!("{name}{down}"), biases[1]) }
}
