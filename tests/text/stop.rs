//! Stop strings, wherever tokens end.

use sconce::text::{StopMatcher, stop::Emitted};

use crate::random::Random;

/// The first stop string to be complete, the longest of those: where it begins, and which it is.
fn naive(text: &str, stops: &[&str]) -> Option<(usize, usize)> {
    let ends = (1..=text.len()).filter(|end| text.is_char_boundary(*end));
    ends.map(|end| &text[..end]).find_map(|so_far| {
        let fitting =
            stops.iter().enumerate().filter(|(_, stop)| !stop.is_empty() && so_far.ends_with(**stop));
        let (index, stop) = fitting.max_by_key(|(index, stop)| (stop.len(), usize::MAX - index))?;
        Some((so_far.len() - stop.len(), index))
    })
}

/// Whether `text` ends with the beginning of a stop string.
fn suspect(text: &str, stops: &[&str]) -> bool {
    stops.iter().any(|stop| (1..stop.len()).any(|end| text.as_bytes().ends_with(&stop.as_bytes()[..end])))
}

#[test]
fn the_answer_ends_where_a_naive_search_ends_it_whatever_the_pieces() {
    let mut random = Random(3);
    let alphabet = ["a", "b", "ab", "é", "€", " ", "\n", "<|", "|>"];
    let (mut stopped, mut held) = (0, 0);
    for _ in 0..20_000 {
        let word = |random: &mut Random, most| -> String {
            (0..random.below(most)).map(|_| *random.pick(&alphabet)).collect()
        };
        let text = word(&mut random, 24);
        let stops: Vec<String> = (0..random.below(4)).map(|_| word(&mut random, 5)).collect();
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        let characters: Vec<char> = text.chars().collect();
        let pieces: Vec<String> =
            random.cut(&characters, 3).iter().map(|piece| piece.iter().collect()).collect();

        let mut matcher = StopMatcher::new(&stops);
        let (mut emitted, mut seen, mut tokens, mut stop) = (String::new(), String::new(), 0, None);
        for piece in &pieces {
            let step = matcher.push(piece);
            assert!(stop.is_none() || step == Emitted::default(), "nothing comes after the stop");
            seen.push_str(piece);
            emitted.push_str(&step.text);
            tokens += step.tokens;
            stop = stop.or(step.stop);
            if stop.is_none() {
                assert!(seen.starts_with(&emitted));
                let kept = seen.len() - emitted.len();
                assert!(
                    kept == 0 || suspect(&seen, &stops),
                    "held back without a reason: {seen:?} {stops:?}"
                );
                held += usize::from(kept > 0);
            }
        }
        let last = matcher.finish("");
        emitted.push_str(&last.text);
        tokens += last.tokens;

        let expected = naive(&text, &stops);
        let end = expected.map_or(text.len(), |(end, _)| end);
        assert_eq!(
            (emitted.as_str(), stop),
            (&text[..end], expected.map(|(_, index)| index)),
            "{pieces:?} {stops:?}"
        );
        let begins =
            pieces.iter().scan(0, |begin, piece| Some(std::mem::replace(begin, *begin + piece.len())));
        let belonging =
            if stop.is_some() { begins.filter(|begin| *begin < end).count() } else { pieces.len() };
        assert_eq!(tokens, belonging, "{pieces:?} {stops:?}");
        stopped += usize::from(stop.is_some());
    }
    assert!(stopped > 2000 && held > 2000, "{stopped} stopped and {held} held back: the texts are too tame");
}

#[test]
fn tokens_inside_one_character_go_with_it() {
    let mut matcher = StopMatcher::new(&["!"]);
    assert_eq!(matcher.push("a"), Emitted { text: "a".into(), tokens: 1, stop: None });
    assert_eq!(matcher.push(""), Emitted::default(), "its bytes are no text yet");
    assert_eq!(matcher.push("€"), Emitted { text: "€".into(), tokens: 2, stop: None });
    assert_eq!(matcher.push(""), Emitted::default());
    assert_eq!(matcher.push("!"), Emitted { text: String::new(), tokens: 0, stop: Some(0) });
}

#[test]
fn a_token_that_only_begins_before_the_stop_belongs_to_the_answer() {
    let mut matcher = StopMatcher::new(&["\n\n"]);
    assert_eq!(matcher.push("end.\n"), Emitted { text: "end.".into(), tokens: 1, stop: None });
    assert_eq!(matcher.push("\nmore"), Emitted { text: String::new(), tokens: 0, stop: Some(0) });
    assert_eq!(matcher.push("more"), Emitted::default());
    assert_eq!(matcher.finish("more"), Emitted::default());
}

#[test]
fn what_was_held_comes_out_at_the_end() {
    let mut matcher = StopMatcher::new(&["</answer>"]);
    assert_eq!(matcher.push("42 </ans"), Emitted { text: "42 ".into(), tokens: 1, stop: None });
    assert_eq!(matcher.push(""), Emitted::default());
    assert_eq!(matcher.finish("\u{fffd}"), Emitted { text: "</ans\u{fffd}".into(), tokens: 1, stop: None });
}

#[test]
fn the_last_character_may_complete_a_stop() {
    let mut matcher = StopMatcher::new(&["x\u{fffd}"]);
    assert_eq!(matcher.push("x"), Emitted::default());
    assert_eq!(matcher.finish("\u{fffd}"), Emitted { text: String::new(), tokens: 0, stop: Some(0) });
}

#[test]
fn without_stop_strings_everything_comes_at_once() {
    for stops in [&[][..], &[""]] {
        let mut matcher = StopMatcher::new(stops);
        assert_eq!(matcher.push("text"), Emitted { text: "text".into(), tokens: 1, stop: None });
    }
}

#[test]
fn a_stop_string_that_repeats_itself_costs_no_more() {
    let begin = std::time::Instant::now();
    let stop = format!("{}b", "a".repeat(10_000));
    let mut matcher = StopMatcher::new(&[stop.as_str()]);
    let mut length = 0;
    for _ in 0..100_000 {
        length += matcher.push("a").text.len();
    }
    assert_eq!(length, 90_000);
    assert!(begin.elapsed().as_secs() < 20, "it took {:?}", begin.elapsed());
}
