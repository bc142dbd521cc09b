//! GGUF's names of tensors, as llama.cpp's converter gives them, back to Hugging Face's.

/// What a tensor is called where the architecture's description asks for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Whole(String),
    /// A tensor for each of its outermost elements: experts, or the norms of heads. The number goes between.
    Each(String, String),
}

/// How an architecture's names begin.
struct Outside {
    tokens: &'static str,
    norm: &'static str,
    head: &'static str,
    layers: &'static str,
}

const LLAMA: Outside =
    Outside { tokens: "model.embed_tokens", norm: "model.norm", head: "lm_head", layers: "model.layers" };

fn outside(architecture: &str) -> Outside {
    match architecture {
        "gpt2" => Outside {
            tokens: "transformer.wte",
            norm: "transformer.ln_f",
            head: "lm_head",
            layers: "transformer.h",
        },
        "bloom" | "falcon" => Outside {
            tokens: "transformer.word_embeddings",
            norm: "transformer.ln_f",
            head: "lm_head",
            layers: "transformer.h",
        },
        "gptneox" => Outside {
            tokens: "gpt_neox.embed_in",
            norm: "gpt_neox.final_layer_norm",
            head: "embed_out",
            layers: "gpt_neox.layers",
        },
        "phi2" => Outside { norm: "model.final_layernorm", ..LLAMA },
        _ => LLAMA,
    }
}

/// The name that the architecture's description asks for; None where there is no counterpart.
pub(super) fn to_hugging_face(architecture: &str, name: &str) -> Option<Name> {
    let (stem, ending) = name.rsplit_once('.')?;
    let outside = outside(architecture);
    let Some(rest) = stem.strip_prefix("blk.") else {
        let renamed = match stem {
            "token_embd" => outside.tokens,
            "output_norm" => outside.norm,
            "output" => outside.head,
            "position_embd" => "transformer.wpe",
            "token_embd_norm" => "transformer.word_embeddings_layernorm",
            _ => return None,
        };
        return Some(Name::Whole(format!("{renamed}.{ending}")));
    };
    let (layer, part) = rest.split_once('.')?;
    layer.parse::<usize>().ok()?;
    let layer = format!("{}.{layer}", outside.layers);
    if let Some((before, after)) = each_part(architecture, part) {
        return Some(Name::Each(format!("{layer}.{before}."), format!("{after}.{ending}")));
    }
    let part = match architecture {
        "gpt2" => gpt2_part(part),
        "bloom" | "falcon" | "gptneox" => neox_part(architecture, part),
        _ => part_of(architecture, part),
    }?;
    // Sinks are a parameter of their own.
    Some(Name::Whole(if part.ends_with("sinks") {
        format!("{layer}.{part}")
    } else {
        format!("{layer}.{part}.{ending}")
    }))
}

/// What comes before and after the number of an expert, or of a head's norm.
fn each_part(architecture: &str, part: &str) -> Option<(&'static str, &'static str)> {
    Some(match (architecture, part) {
        ("llama", "ffn_gate_exps") => ("block_sparse_moe.experts", ".w1"),
        ("llama", "ffn_down_exps") => ("block_sparse_moe.experts", ".w2"),
        ("llama", "ffn_up_exps") => ("block_sparse_moe.experts", ".w3"),
        (_, "ffn_gate_exps") => ("mlp.experts", ".gate_proj"),
        (_, "ffn_down_exps") => ("mlp.experts", ".down_proj"),
        (_, "ffn_up_exps") => ("mlp.experts", ".up_proj"),
        ("stablelm", "attn_q_norm") => ("self_attn.q_layernorm.norms", ""),
        ("stablelm", "attn_k_norm") => ("self_attn.k_layernorm.norms", ""),
        _ => return None,
    })
}

fn gpt2_part(part: &str) -> Option<&'static str> {
    Some(match part {
        "attn_norm" => "ln_1",
        "attn_qkv" => "attn.c_attn",
        "attn_output" => "attn.c_proj",
        "ffn_norm" => "ln_2",
        "ffn_up" => "mlp.c_fc",
        "ffn_down" => "mlp.c_proj",
        _ => return None,
    })
}

fn neox_part(architecture: &str, part: &str) -> Option<&'static str> {
    let neox = architecture == "gptneox";
    Some(match part {
        "attn_norm" => "input_layernorm",
        // Falcon with two norms; the other is renamed by `Gguf`.
        "attn_norm_2" => "ln_attn",
        "attn_qkv" if neox => "attention.query_key_value",
        "attn_qkv" => "self_attention.query_key_value",
        "attn_output" if neox => "attention.dense",
        "attn_output" => "self_attention.dense",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_up" => "mlp.dense_h_to_4h",
        "ffn_down" => "mlp.dense_4h_to_h",
        _ => return None,
    })
}

fn part_of(architecture: &str, part: &str) -> Option<&'static str> {
    let four_norms = matches!(architecture, "gemma2" | "gemma3");
    Some(match (architecture, part) {
        ("phi2", "attn_output") => "self_attn.dense",
        ("phi2", "ffn_up") => "mlp.fc1",
        ("phi2", "ffn_down") => "mlp.fc2",
        ("starcoder2", "ffn_up") => "mlp.c_fc",
        ("starcoder2", "ffn_down") => "mlp.c_proj",
        ("glm4", "post_attention_norm") => "post_self_attn_layernorm",
        ("glm4", "post_ffw_norm") => "post_mlp_layernorm",
        // Up holds the gate's rows too.
        ("phi3" | "glm4", "ffn_up") => "mlp.gate_up_proj",
        ("llama", "ffn_gate_inp") => "block_sparse_moe.gate",
        ("gpt-oss", "ffn_gate_inp") => "mlp.router",
        (_, "attn_norm") => "input_layernorm",
        (_, "attn_q") => "self_attn.q_proj",
        (_, "attn_k") => "self_attn.k_proj",
        (_, "attn_v") => "self_attn.v_proj",
        (_, "attn_qkv") => "self_attn.qkv_proj",
        (_, "attn_output") => "self_attn.o_proj",
        (_, "attn_q_norm") => "self_attn.q_norm",
        (_, "attn_k_norm") => "self_attn.k_norm",
        (_, "attn_sinks") => "self_attn.sinks",
        (_, "ffn_norm") if four_norms => "pre_feedforward_layernorm",
        (_, "ffn_norm" | "post_attention_norm") => "post_attention_layernorm",
        (_, "post_ffw_norm") => "post_feedforward_layernorm",
        (_, "ffn_gate") => "mlp.gate_proj",
        (_, "ffn_up") => "mlp.up_proj",
        (_, "ffn_down") => "mlp.down_proj",
        (_, "ffn_gate_inp") => "mlp.gate",
        (_, "ffn_gate_shexp") => "mlp.shared_expert.gate_proj",
        (_, "ffn_up_shexp") => "mlp.shared_expert.up_proj",
        (_, "ffn_down_shexp") => "mlp.shared_expert.down_proj",
        (_, "ffn_gate_inp_shexp") => "mlp.shared_expert_gate",
        _ => return None,
    })
}
