use std::collections::HashSet;

use sconce::engine::random::{philox4x32, uniform};

/// The known answers of Random123's distribution (tests/kat_vectors, "philox4x32 10").
#[test]
fn philox_gives_the_published_answers() {
    let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    let vectors = [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (pi, [0xa409_3822, 0x299f_31d0], [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
    ];
    for (counter, key, answer) in vectors {
        assert_eq!(philox4x32(counter, key), answer);
    }
}

#[test]
fn every_part_of_the_place_matters() {
    let seeds = [0, 1, 1 << 32, u64::MAX];
    let positions = [0, 1, 2, 1 << 32, u64::MAX];
    let mut seen = HashSet::new();
    for seed in seeds {
        for choice in [0, 1, u32::MAX] {
            for position in positions {
                let number = uniform(seed, choice, position);
                assert!((0.0..1.0).contains(&number));
                assert!(seen.insert(number.to_bits()));
            }
        }
    }
}
