//! The promise through the daemon: the same request gives the same bytes, alone and in a crowd.
#![cfg(feature = "candle")]

mod common;
#[path = "engine/dice.rs"]
#[expect(dead_code, reason = "the engine's tests use all of it")]
mod dice;
#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod tiny;

use std::time::{Duration, Instant};

use common::{LONG, TestServer, events, metric, with};
use dice::Dice;
use futures_util::{StreamExt, stream};
use sconce::kernels::Isa;
use serde_json::{Value, json};
use tiny::Stored;

const REQUESTS: usize = 320;
/// Requests at the same time.
const CROWD: usize = 24;

/// What is asked, and where.
#[derive(Clone)]
struct Ask {
    path: &'static str,
    body: Value,
    /// The reader leaves after so many chunks.
    leaves: Option<usize>,
}

fn asks(dice: &mut Dice) -> Vec<Ask> {
    let beginnings =
        ["", "the same beginning of many words that fill some blocks ", "another start, also a long one "];
    let one = |dice: &mut Dice| {
        let words = dice.between(1, 20);
        let beginning = beginnings[dice.below(3)].repeat(dice.below(3));
        let text =
            format!("{beginning}{}", (0..words).map(|_| format!("{} ", dice.below(50))).collect::<String>());
        let mut body = json!({
            "model": "tiny", "max_tokens": dice.between(1, 48), "seed": dice.below(1000),
            "temperature": dice.pick(&[0.0, 0.7, 1.0, 1.6]), "top_p": dice.pick(&[1.0, 0.9, 0.4]),
            "top_k": dice.pick(&[-1, 5, 40]), "min_p": dice.pick(&[0.0, 0.02]), "n": dice.pick(&[1, 1, 1, 2, 3]),
            "presence_penalty": dice.pick(&[0.0, 0.8]), "frequency_penalty": dice.pick(&[0.0, 0.3]),
            "repetition_penalty": dice.pick(&[1.0, 1.2]),
        });
        if dice.chance(30) {
            body["stop"] = json!([dice.pick(&["a", "e", "th", "\n", "1"])]);
        }
        let leaves = dice.chance(20).then(|| dice.below(6));
        if dice.chance(60) {
            body["messages"] = json!([{ "role": "user", "content": text }]);
            if dice.chance(40) {
                body["logprobs"] = true.into();
                body["top_logprobs"] = dice.below(4).into();
            }
            return Ask { path: "/v1/chat/completions", body, leaves };
        }
        body["prompt"] = text.into();
        if dice.chance(40) {
            body["logprobs"] = dice.below(4).into();
        }
        body["echo"] = dice.chance(20).into();
        Ask { path: "/v1/completions", body, leaves }
    };
    (0..REQUESTS).map(|_| one(dice)).collect()
}

fn text(choice: &Value) -> &str {
    let message = choice["message"]["content"].as_str();
    message
        .or_else(|| choice["text"].as_str())
        .or_else(|| choice["delta"]["content"].as_str())
        .unwrap_or_default()
}

/// The texts of the choices, as far as the reader stayed.
async fn part(server: &TestServer, ask: &Ask, chunks: usize) -> Vec<String> {
    let body = with(ask.body.clone(), json!({ "stream": true }));
    let response = server.client.post(server.url(ask.path)).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut bytes = response.bytes_stream();
    let mut read = Vec::new();
    for _ in 0..chunks {
        match bytes.next().await {
            Some(chunk) => read.extend(chunk.unwrap()),
            None => break,
        }
    }
    drop(bytes);
    // The last piece may end within a character.
    let whole = read.windows(2).rposition(|end| end == b"\n\n").map_or(&[][..], |end| &read[..end]);
    let whole = std::str::from_utf8(whole).unwrap();
    let mut texts = vec![String::new(); ask.body["n"].as_u64().unwrap() as usize];
    for event in events(whole).iter().filter(|event| *event != "[DONE]") {
        let event: Value = serde_json::from_str(event).unwrap();
        for choice in event["choices"].as_array().unwrap() {
            texts[choice["index"].as_u64().unwrap() as usize].push_str(text(choice));
        }
    }
    texts
}

/// All at random times; what is answered must be what was expected.
async fn crowd(server: &TestServer, asks: &[Ask], expected: &[Value], dice: &mut Dice, what: &str) {
    let mut order: Vec<(usize, u64)> = (0..asks.len()).map(|i| (i, dice.below(30) as u64)).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, dice.below(i + 1));
    }
    let run = |(i, pause): (usize, u64)| async move {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let ask = &asks[i];
        if let Some(chunks) = ask.leaves {
            for (choice, text_so_far) in part(server, ask, chunks).await.iter().enumerate() {
                let whole = text(&expected[i]["choices"][choice]);
                assert!(whole.starts_with(text_so_far), "{what}: {text_so_far:?} of {whole:?}");
            }
            return;
        }
        let answer = server.ok(ask.path, &ask.body).await;
        assert_eq!(tiny::comparable(answer), tiny::comparable(expected[i].clone()), "{what}: {}", ask.body);
    };
    stream::iter(order).for_each_concurrent(CROWD, run).await;
    let until = Instant::now() + LONG;
    while metric(server, "sconce_kv_blocks_used").await > 0 {
        assert!(Instant::now() < until, "{what}: blocks are not given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for gauge in ["sconce_sequences_running", "sconce_sequences_waiting", "sconce_sequences_paused"] {
        assert_eq!(metric(server, gauge).await, 0, "{what}: {gauge}");
    }
}

async fn replay(stored: Stored, seed: u64) {
    let dice = &mut Dice(seed);
    let asks = asks(dice);
    let alone = tiny::server(stored, &["candle.threads=1", "candle.prefix_cache=false"]).await;
    let mut expected = Vec::new();
    for ask in &asks {
        expected.push(alone.ok(ask.path, &ask.body).await);
    }
    drop(alone);
    // A cache of 18 blocks holds a few requests at a time: the others wait, or make room and are run again.
    let cache = format!("candle.kv_cache={}", 18 * 16 * 2 * 2 * 32 * 4);
    let mut preemptions = 0;
    for (i, isa) in Isa::available().into_iter().enumerate() {
        let threads = format!("candle.threads={}", [4, 1, 2][i % 3]);
        let instructions = format!("candle.instructions={}", isa.name());
        let batch = format!("candle.max_batch_tokens={}", [24, 7, 64][i % 3]);
        let busy = tiny::server(stored, &[&threads, &instructions, &cache, &batch]).await;
        crowd(&busy, &asks, &expected, dice, &format!("{instructions} {threads}")).await;
        preemptions += metric(&busy, "sconce_preemptions_total").await;
    }
    assert!(preemptions > 0, "nothing had to make room");
    let busy = tiny::server(stored, &["candle.threads=2", "candle.prefix_cache=false", &cache]).await;
    crowd(&busy, &asks, &expected, dice, "without the prefix cache").await;
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes_with_f32_weights() {
    replay(Stored::F32, 11).await;
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes_with_bfloat16_weights() {
    replay(Stored::Bf16, 12).await;
}
