//! GGUF's names of tensors, as llama.cpp's converter gives them, back to Hugging Face's.

/// The name that the architecture's description asks for; None where there is no counterpart.
pub(super) fn to_hugging_face(architecture: &str, name: &str) -> Option<String> {
    let (stem, ending) = name.rsplit_once('.')?;
    let renamed = match stem.strip_prefix("blk.") {
        Some(rest) => {
            let (layer, part) = rest.split_once('.')?;
            layer.parse::<usize>().ok()?;
            let part = if architecture == "gpt2" { gpt2_part(part) } else { part_of(architecture, part) }?;
            let layers = if architecture == "gpt2" { "transformer.h" } else { "model.layers" };
            format!("{layers}.{layer}.{part}")
        }
        None => outer(architecture, stem)?.to_owned(),
    };
    Some(format!("{renamed}.{ending}"))
}

fn outer(architecture: &str, stem: &str) -> Option<&'static str> {
    Some(match (architecture, stem) {
        ("gpt2", "token_embd") => "transformer.wte",
        ("gpt2", "position_embd") => "transformer.wpe",
        ("gpt2", "output_norm") => "transformer.ln_f",
        (_, "token_embd") => "model.embed_tokens",
        (_, "output_norm") => "model.norm",
        (_, "output") => "lm_head",
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

fn part_of(architecture: &str, part: &str) -> Option<&'static str> {
    let four_norms = matches!(architecture, "gemma2" | "gemma3");
    Some(match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_qkv" => "self_attn.qkv_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" if four_norms => "pre_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "post_attention_norm" if four_norms => "post_attention_layernorm",
        "post_ffw_norm" if four_norms => "post_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        // Phi 3's up holds the gate's rows too.
        "ffn_up" if architecture == "phi3" => "mlp.gate_up_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    })
}
