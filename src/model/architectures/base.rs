//! The decoder most architectures are a variation of: Llama's names, norms before attention and feed-forward, a gated
//! feed-forward, rotary positions. Fields change what most variations change; the rest is edited in the description.

use crate::{
    kernels::{
        activation::Activation,
        norm::NormKind,
        rotary::{Pairing, Rotary},
    },
    model::{
        config::{Config, ConfigError},
        description::{
            Attention, Description, Embedding, FeedForward, Layer, Linear, Mlp, Norm, Projections, Up,
        },
        rope::{self, Rope},
    },
};

pub(super) struct Base<'a> {
    pub(super) config: &'a Config,
    /// Tokens that will be served at most.
    pub(super) context_length: usize,
    pub(super) prefix: &'static str,
    /// Between the prefix and a layer's number.
    pub(super) layers: &'static str,
    pub(super) tokens: &'static str,
    pub(super) final_norm: &'static str,
    pub(super) head: &'static str,
    /// Where the configuration does not say.
    pub(super) tied: bool,
    pub(super) norm: NormKind,
    pub(super) norm_bias: bool,
    pub(super) norm_eps: f32,
    /// Where the configuration does not say.
    pub(super) activation: &'static str,
    pub(super) rotary: bool,
    pub(super) pairing: Pairing,
    /// Where the configuration does not say.
    pub(super) theta: f64,
    pub(super) partial: f64,
}

impl<'a> Base<'a> {
    pub(super) fn new(config: &'a Config, context_length: usize) -> Self {
        Self {
            config,
            context_length,
            prefix: "model.",
            layers: "layers.",
            tokens: "embed_tokens",
            final_norm: "norm",
            head: "lm_head",
            tied: false,
            norm: NormKind::Rms,
            norm_bias: false,
            norm_eps: 1e-6,
            activation: "silu",
            rotary: true,
            pairing: Pairing::Halves,
            theta: 10_000.0,
            partial: 1.0,
        }
    }

    pub(super) fn describe(&self) -> Result<Description, ConfigError> {
        let config = self.config;
        let hidden = config.size(&["hidden_size", "n_embd"])?;
        let count = config.size(&["num_hidden_layers", "n_layer"])?;
        let rotary = if self.rotary { vec![self.table(None)?] } else { vec![] };
        let tied = config.flag_or("tie_word_embeddings", self.tied)?;
        let layers = (0..count).map(|i| self.layer(&format!("{}{}{i}.", self.prefix, self.layers), hidden));
        Ok(Description {
            vocabulary: config.size(&["vocab_size"])?,
            hidden,
            context_length: self.context_length,
            prefix: self.prefix,
            embedding: Embedding {
                tokens: format!("{}{}", self.prefix, self.tokens),
                multiplier: 1.0,
                positions: None,
                norm: None,
            },
            rotary,
            layers: layers.collect::<Result<_, _>>()?,
            norm: Some(self.norm(format!("{}{}", self.prefix, self.final_norm))?),
            head: (!tied).then(|| Linear::new(self.head, false)),
            logit_multiplier: 1.0,
            logit_soft_cap: None,
            transposed: false,
        })
    }

    pub(super) fn heads(&self) -> Result<usize, ConfigError> {
        self.config.size(&["num_attention_heads", "n_head"])
    }

    pub(super) fn head_dim(&self) -> Result<usize, ConfigError> {
        let hidden = self.config.size(&["hidden_size", "n_embd"])?;
        Ok(self.config.find_size(&["head_dim"])?.unwrap_or(hidden / self.heads()?))
    }

    /// The rotary table of layers of a type; of all where they do not differ.
    pub(super) fn table(&self, layer_type: Option<&str>) -> Result<Rotary, ConfigError> {
        self.rope()?.table(self.config, &rope::parameters(self.config, layer_type)?)
    }

    pub(super) fn rope(&self) -> Result<Rope, ConfigError> {
        Ok(Rope {
            head_dim: self.head_dim()?,
            theta: self.theta,
            pairing: self.pairing,
            partial: self.partial,
            context_length: self.context_length,
        })
    }

    pub(super) fn norm(&self, name: impl Into<String>) -> Result<Norm, ConfigError> {
        let mut eps = self.norm_eps;
        for key in ["rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"] {
            eps = self.config.number_or(key, eps)?;
        }
        Ok(Norm { name: Some(name.into()), kind: self.norm, eps, bias: self.norm_bias, unit_offset: false })
    }

    pub(super) fn activation(&self) -> Result<Activation, ConfigError> {
        let mut name = self.activation;
        for key in ["hidden_activation", "hidden_act", "activation_function", "activation"] {
            if let Some(found) = self.config.text(key)? {
                name = found;
                break;
            }
        }
        self.named(name)
    }

    pub(super) fn named(&self, name: &str) -> Result<Activation, ConfigError> {
        match name {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_tanh" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => Err(ConfigError::Unsupported(format!("activation {other:?}"))),
        }
    }

    fn layer(&self, name: &str, hidden: usize) -> Result<Layer, ConfigError> {
        let heads = self.heads()?;
        let head_dim = self.head_dim()?;
        let kv_heads = self.config.find_size(&["num_key_value_heads"])?.unwrap_or(heads);
        if kv_heads == 0 || heads % kv_heads != 0 || head_dim == 0 {
            let message = format!("{heads} heads of {head_dim} with {kv_heads} heads of keys and values");
            return Err(ConfigError::Unsupported(message));
        }
        let linear = |suffix: &str| Linear::new(format!("{name}{suffix}"), false);
        let inner = self.config.find_size(&["intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim"])?;
        Ok(Layer {
            before_attention: Some(self.norm(format!("{name}input_layernorm"))?),
            attention: Attention {
                heads,
                kv_heads,
                head_dim,
                projections: Projections::Separate {
                    query: linear("self_attn.q_proj"),
                    key: linear("self_attn.k_proj"),
                    value: linear("self_attn.v_proj"),
                },
                clip: None,
                query_norm: None,
                key_norm: None,
                rotary: self.rotary.then_some(0),
                scale: inverse_root(head_dim),
                soft_cap: None,
                window: None,
                sinks: None,
                slopes: None,
                output: linear("self_attn.o_proj"),
            },
            after_attention: None,
            before_feed_forward: Some(self.norm(format!("{name}post_attention_layernorm"))?),
            feed_forward: FeedForward::Dense(Mlp {
                inner: inner.unwrap_or(4 * hidden),
                up: Up::Gated { gate: linear("mlp.gate_proj"), up: linear("mlp.up_proj") },
                down: linear("mlp.down_proj"),
            }),
            activation: self.activation()?,
            after_feed_forward: None,
            parallel: false,
            residual_multiplier: 1.0,
        })
    }
}

/// 1 / √x.
#[expect(clippy::cast_precision_loss, reason = "a head's dimensions")]
pub(super) fn inverse_root(x: usize) -> f32 {
    1.0 / (x as f32).sqrt()
}

/// The layer's name with a dot, read off the names of its projections.
pub(super) fn layer_name(prefix: &str, layers: &str, index: usize) -> String {
    format!("{prefix}{layers}{index}.")
}

/// A feed-forward without a gate.
pub(super) fn plain_mlp(name: &str, [up, down]: [&str; 2], inner: usize, bias: bool) -> FeedForward {
    FeedForward::Dense(Mlp {
        inner,
        up: Up::Plain(Linear::new(format!("{name}{up}"), bias)),
        down: Linear::new(format!("{name}{down}"), bias),
    })
}

/// Gives the layers that `layer_types` names sliding a window. Without such a list, `sliding` tells which they are.
pub(super) fn slide(
    config: &Config,
    description: &mut Description,
    sliding: impl Fn(usize) -> bool,
) -> Result<(), ConfigError> {
    let window = config.find_size(&["sliding_window"])?.filter(|window| *window > 0);
    let types = layer_types(config, description.layers.len(), sliding)?;
    description.each(|i, layer| layer.attention.window = window.filter(|_| types[i]));
    Ok(())
}

/// Whether each layer slides.
pub(super) fn layer_types(
    config: &Config,
    layers: usize,
    sliding: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, ConfigError> {
    let Some(types) = config.texts("layer_types")? else { return Ok((0..layers).map(sliding).collect()) };
    if types.len() != layers {
        let message = format!("layer_types of {} layers where there are {layers}", types.len());
        return Err(ConfigError::Unsupported(message));
    }
    let is_sliding = |name: &&str| match *name {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        other => Err(ConfigError::Unsupported(format!("layer type {other:?}"))),
    };
    types.iter().map(is_sliding).collect()
}

/// Slopes of ALiBi (Press et al. 2022, section 3): powers of 2^(-8/n), and for other numbers of heads than powers of two
/// every other one of twice as many for the rest (`build_alibi_tensor` of `modeling_bloom.py`).
pub(super) fn slopes(heads: usize) -> Vec<f32> {
    use crate::kernels::precise::exp;
    let whole = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a number of heads")]
    let slope = |i: usize, of: usize| exp(-8.0 * (i as f64) / (of as f64) * std::f64::consts::LN_2) as f32;
    let own = (1..=whole).map(|i| slope(i, whole));
    own.chain((0..heads - whole).map(|i| slope(2 * i + 1, 2 * whole))).collect()
}
