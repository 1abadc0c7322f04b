//! Slices: expressions and configurations of any bytes end in an answer, and what is cut of a tensor
//! lies in it and has the bytes of its shape.
//!
//! Input: lines of expressions up to an empty line; then a `config.json`, to whose architecture names of
//! the family's tensors are tried with shapes from the configuration's bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_tensors::{
    ByteRange, Dtype, Tensor,
    slice::{Architecture, Slice, Slicer, parse_range},
};

const NAMES: &[&str] = &[
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.norm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.v_proj.bias",
    "model.layers.1.self_attn.o_proj.weight",
    "model.layers.0.self_attn.qkv_proj.weight",
    "model.layers.0.mlp.gate_up_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.0.mlp.experts.3.down_proj.weight",
    "model.layers.0.block_sparse_moe.experts.1.w1.weight",
    "language_model.model.layers.0.self_attn.k_proj.weight",
];

fuzz_target!(|input: &[u8]| {
    let at = input.windows(2).position(|pair| pair == b"\n\n");
    let (expressions, config) = at.map_or((input, &b""[..]), |at| (&input[..at], &input[at + 2..]));
    let Ok(text) = std::str::from_utf8(expressions) else {
        return;
    };
    let _ = parse_range(text);
    let Ok(slice) = Slice::parse(text.lines()) else {
        return;
    };
    let again = slice.to_string();
    assert_eq!(Slice::parse(again.split_terminator(' ')), Ok(slice.clone()));
    let Ok(architecture) = Architecture::parse(config) else {
        return;
    };
    let (heads, kv, dim) = (
        architecture.heads,
        architecture.kv_heads,
        architecture.head_dim,
    );
    let Ok(slicer) = Slicer::new(architecture, slice, config.len().is_multiple_of(2)) else {
        return;
    };
    let near = u64::from(config.last().copied().unwrap_or(1)) + 1;
    let lengths = [
        near,
        near * 64,
        heads.saturating_mul(dim),
        kv.saturating_mul(dim),
        heads
            .saturating_add(kv.saturating_mul(2))
            .saturating_mul(dim),
    ];
    for name in NAMES {
        if let Ok(Some(cut)) = slicer.cut(name, &[near]) {
            check(name, &[near], &cut);
        }
        for rows in lengths {
            for columns in lengths {
                let shape = [rows, columns];
                if let Ok(Some(cut)) = slicer.cut(name, &shape) {
                    check(name, &shape, &cut);
                }
            }
        }
    }
});

fn check(name: &str, shape: &[u64], cut: &lode_tensors::Cut) {
    let elements = shape
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim));
    let Some(bytes) = elements.and_then(|elements| Dtype::BF16.bytes_of(elements)) else {
        return;
    };
    let Some(range) = 8u64
        .checked_add(bytes)
        .and_then(|end| ByteRange::new(8, end))
    else {
        return;
    };
    let tensor = Tensor {
        name: name.to_owned(),
        dtype: Dtype::BF16,
        shape: shape.to_vec(),
        range,
    };
    let (new, runs) = cut.of(&tensor).expect("rules cut what is there");
    let taken: u64 = runs.iter().map(|runs| runs.bytes()).sum();
    assert_eq!(taken, 2 * new.iter().product::<u64>());
    for runs in runs {
        assert!(runs.span().start >= range.start && runs.span().end <= range.end);
    }
}
