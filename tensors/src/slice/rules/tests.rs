//! Wrong rows give a model that runs and talks nonsense: each family is held to its table of cuts, and
//! the ranks of a small model are added up to what the whole model says.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn config(class: &str, more: &Value) -> Architecture {
    let mut config = json!({"architectures": [class], "hidden_size": 32, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 4});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    Architecture::parse(config.to_string().as_bytes()).unwrap()
}

fn slicer(class: &str, slices: &[&str]) -> Slicer {
    slicer_of(class, &json!({}), slices, true).unwrap()
}

fn slicer_of(
    class: &str,
    more: &Value,
    slices: &[&str],
    has_head: bool,
) -> Result<Slicer, SliceError> {
    let slice = Slice::parse(slices.iter().copied()).unwrap();
    Slicer::new(config(class, more), slice, has_head)
}

fn rows(range: Range<u64>) -> Option<Cut> {
    Some(Cut::rows(range))
}

fn columns(range: Range<u64>) -> Option<Cut> {
    let parts = vec![range];
    Some(Cut::Part { dim: 1, parts })
}

const WHOLE: Option<Cut> = Some(Cut::Whole);

/// Holds names with shapes to the cuts that are expected of them.
fn assert_cuts(slicer: &Slicer, table: &[(&str, &[u64], Option<Cut>)]) {
    for (name, shape, expected) in table {
        assert_eq!(slicer.cut(name, shape).unwrap(), *expected, "{name}");
    }
}

#[test]
fn llama_mistral_qwen2_and_gemma_are_cut_by_heads_rows_and_columns() {
    for class in [
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "GemmaForCausalLM",
    ] {
        assert_cuts(
            &slicer(class, &["tp=1/2"]),
            &[
                ("model.embed_tokens.weight", &[100, 32], rows(50..100)),
                (
                    "model.layers.0.self_attn.q_proj.weight",
                    &[32, 32],
                    rows(16..32),
                ),
                ("model.layers.0.self_attn.q_proj.bias", &[32], rows(16..32)),
                (
                    "model.layers.3.self_attn.k_proj.weight",
                    &[8, 32],
                    rows(4..8),
                ),
                ("model.layers.0.self_attn.v_proj.bias", &[8], rows(4..8)),
                (
                    "model.layers.0.self_attn.o_proj.weight",
                    &[32, 32],
                    columns(16..32),
                ),
                ("model.layers.0.self_attn.o_proj.bias", &[32], WHOLE),
                ("model.layers.0.self_attn.rotary_emb.inv_freq", &[2], WHOLE),
                (
                    "model.layers.0.mlp.gate_proj.weight",
                    &[48, 32],
                    rows(24..48),
                ),
                ("model.layers.0.mlp.up_proj.bias", &[48], rows(24..48)),
                (
                    "model.layers.0.mlp.down_proj.weight",
                    &[32, 48],
                    columns(24..48),
                ),
                ("model.layers.0.mlp.down_proj.bias", &[32], WHOLE),
                ("model.layers.0.input_layernorm.weight", &[32], WHOLE),
                (
                    "model.layers.0.post_attention_layernorm.weight",
                    &[32],
                    WHOLE,
                ),
                ("model.norm.weight", &[32], WHOLE),
                ("lm_head.weight", &[100, 32], rows(50..100)),
            ],
        );
    }
}

#[test]
fn norms_of_queries_and_keys_are_whole_where_the_family_has_them() {
    let name = "model.layers.0.self_attn.q_norm.weight";
    for class in [
        "Qwen3ForCausalLM",
        "Gemma3ForCausalLM",
        "Qwen3MoeForCausalLM",
    ] {
        let slicer = slicer_of(class, &json!({"num_experts": 4}), &["tp=0/2"], true).unwrap();
        assert_cuts(&slicer, &[(name, &[4], WHOLE)]);
    }
    let llama = slicer("LlamaForCausalLM", &["tp=0/2"]);
    assert!(matches!(
        llama.cut(name, &[4]),
        Err(SliceError::UnknownTensor { .. })
    ));
    let norm = "model.layers.1.pre_feedforward_layernorm.weight";
    for class in ["Gemma2ForCausalLM", "Gemma3ForCausalLM"] {
        assert_cuts(&slicer(class, &["tp=0/2"]), &[(norm, &[32], WHOLE)]);
    }
}

#[test]
fn both_layouts_of_a_gemma_3_with_vision_are_known() {
    let text = json!({"text_config": {"hidden_size": 32, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 4}});
    let class = "Gemma3ForConditionalGeneration";
    let slicer = slicer_of(class, &text, &["tp=1/2"], false).unwrap();
    assert_cuts(
        &slicer,
        &[
            (
                "language_model.model.embed_tokens.weight",
                &[64, 32],
                rows(32..64),
            ),
            (
                "language_model.model.layers.0.self_attn.q_proj.weight",
                &[32, 32],
                rows(16..32),
            ),
            (
                "model.language_model.layers.0.self_attn.q_proj.weight",
                &[32, 32],
                rows(16..32),
            ),
            ("model.language_model.norm.weight", &[32], WHOLE),
            (
                "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
                &[8, 8],
                WHOLE,
            ),
            (
                "model.multi_modal_projector.mm_soft_emb_norm.weight",
                &[8],
                WHOLE,
            ),
        ],
    );
    let last = slicer_of(class, &text, &["layers=2..4"], false).unwrap();
    assert_cuts(
        &last,
        &[
            ("vision_tower.vision_model.head.probe", &[1, 1, 8], None),
            ("language_model.model.embed_tokens.weight", &[64, 32], WHOLE),
        ],
    );
}

#[test]
fn fused_projections_of_phi_3_are_cut_inside_their_parts() {
    let qkv = "model.layers.0.self_attn.qkv_proj.weight";
    let gate_up = "model.layers.0.mlp.gate_up_proj.weight";
    let parts = |parts: &[Range<u64>]| {
        let parts = parts.to_vec();
        Some(Cut::Part { dim: 0, parts })
    };
    let slicer = |slice| slicer("Phi3ForCausalLM", &[slice]);
    assert_cuts(
        &slicer("tp=1/2"),
        &[
            (qkv, &[48, 32], parts(&[16..32, 36..40, 44..48])),
            (gate_up, &[96, 32], parts(&[24..48, 72..96])),
            (
                "model.layers.0.self_attn.o_proj.weight",
                &[32, 32],
                columns(16..32),
            ),
            (
                "model.layers.0.mlp.down_proj.weight",
                &[32, 48],
                columns(24..48),
            ),
        ],
    );
    // two key/value heads for four ranks
    assert_cuts(
        &slicer("tp=1/4"),
        &[(qkv, &[48, 32], parts(&[8..16, 32..36, 40..44]))],
    );
    for shape in [&[40, 32][..], &[96, 32], &[48]] {
        let error = slicer("tp=0/2").cut(qkv, shape).unwrap_err();
        assert!(matches!(error, SliceError::Shape { .. }), "{error}");
    }
    let error = slicer("tp=0/2").cut(gate_up, &[97, 32]).unwrap_err();
    assert!(error.to_string().contains("two halves"), "{error}");
    let unfused = slicer("tp=0/2").cut("model.layers.0.mlp.gate_proj.weight", &[48, 32]);
    assert!(matches!(unfused, Err(SliceError::UnknownTensor { .. })));
}

#[test]
fn experts_are_cut_like_a_dense_layer_and_their_router_stays_whole() {
    let experts = json!({"num_local_experts": 4});
    let mixtral = slicer_of(
        "MixtralForCausalLM",
        &experts,
        &["tp=1/2", "experts=1..3"],
        true,
    );
    assert_cuts(
        &mixtral.unwrap(),
        &[
            (
                "model.layers.0.block_sparse_moe.gate.weight",
                &[4, 32],
                WHOLE,
            ),
            (
                "model.layers.0.block_sparse_moe.experts.1.w1.weight",
                &[48, 32],
                rows(24..48),
            ),
            (
                "model.layers.0.block_sparse_moe.experts.2.w3.weight",
                &[48, 32],
                rows(24..48),
            ),
            (
                "model.layers.0.block_sparse_moe.experts.2.w2.weight",
                &[32, 48],
                columns(24..48),
            ),
            (
                "model.layers.0.block_sparse_moe.experts.0.w2.weight",
                &[32, 48],
                None,
            ),
            (
                "model.layers.0.block_sparse_moe.experts.3.w1.weight",
                &[48, 32],
                None,
            ),
        ],
    );
    for class in ["Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"] {
        let more = json!({"num_experts": 16});
        let slicer = slicer_of(class, &more, &["tp=0/4", "experts=8..16"], true).unwrap();
        assert_cuts(
            &slicer,
            &[
                ("model.layers.0.mlp.gate.weight", &[16, 32], WHOLE),
                (
                    "model.layers.0.mlp.experts.7.up_proj.weight",
                    &[12, 32],
                    None,
                ),
                (
                    "model.layers.0.mlp.experts.15.up_proj.weight",
                    &[12, 32],
                    rows(0..3),
                ),
                (
                    "model.layers.0.mlp.experts.8.down_proj.weight",
                    &[32, 12],
                    columns(0..3),
                ),
                (
                    "model.layers.0.mlp.shared_expert.gate_proj.weight",
                    &[24, 32],
                    rows(0..6),
                ),
                (
                    "model.layers.0.mlp.shared_expert_gate.weight",
                    &[1, 32],
                    WHOLE,
                ),
                (
                    "model.layers.1.mlp.down_proj.weight",
                    &[32, 48],
                    columns(0..12),
                ),
            ],
        );
        let beyond = slicer.cut("model.layers.0.mlp.experts.16.up_proj.weight", &[12, 32]);
        assert!(
            beyond
                .unwrap_err()
                .to_string()
                .contains("num_experts is 16")
        );
    }
}

#[test]
fn each_rank_has_a_whole_key_value_head_where_there_are_more_ranks() {
    for rank in 0..8 {
        let slice = format!("tp={rank}/8");
        let cut = slicer("LlamaForCausalLM", &[&slice])
            .cut("model.layers.0.self_attn.k_proj.weight", &[8, 32])
            .unwrap();
        let head = rank / 4;
        assert_eq!(cut, rows(head * 4..head * 4 + 4), "{slice}");
    }
}

#[test]
fn stages_of_a_pipeline_have_their_ends() {
    let names: &[(&str, &[u64])] = &[
        ("model.embed_tokens.weight", &[100, 32]),
        ("model.layers.0.input_layernorm.weight", &[32]),
        ("model.layers.1.input_layernorm.weight", &[32]),
        ("model.layers.3.input_layernorm.weight", &[32]),
        ("model.norm.weight", &[32]),
        ("lm_head.weight", &[100, 32]),
    ];
    let kept = |slice: &str, more: &Value, has_head| -> Vec<bool> {
        let slicer = slicer_of("LlamaForCausalLM", more, &[slice], has_head).unwrap();
        let cut = |(name, shape): &(&str, &[u64])| slicer.cut(name, shape).unwrap() == WHOLE;
        names.iter().map(cut).collect()
    };
    let (plain, tied) = (json!({}), json!({"tie_word_embeddings": true}));
    assert_eq!(
        kept("layers=0..1", &plain, true),
        [true, true, false, false, false, false]
    );
    assert_eq!(
        kept("layers=1..3", &plain, true),
        [false, false, true, false, false, false]
    );
    assert_eq!(
        kept("layers=1..4", &plain, true),
        [false, false, true, true, true, true]
    );
    assert_eq!(kept("layers=0..4", &plain, true), [true; 6]);
    for (more, has_head) in [(&tied, true), (&plain, false)] {
        assert_eq!(
            kept("layers=3..4", more, has_head),
            [true, false, false, true, true, true]
        );
        assert!(!kept("layers=1..3", more, has_head)[0]);
    }
}

#[test]
fn a_vocabulary_that_does_not_divide_is_padded_as_vllm_does() {
    let ranks = |rank, of| Ranks { rank, of };
    assert_eq!(vocab(1000, ranks(7, 8)), Some(875..1000));
    // 32001 is padded to 32064
    assert_eq!(vocab(32_001, ranks(0, 8)), Some(0..4008));
    assert_eq!(vocab(32_001, ranks(7, 8)), Some(28_056..32_001));
    // three ranks do not divide the padded one either, and a rank of none is refused
    assert_eq!(vocab(32_002, ranks(0, 3)), Some(0..10_688));
    assert_eq!(vocab(32_065, ranks(0, 3)), None);
    assert_eq!(vocab(10, ranks(0, 4)), None);
    assert_eq!(vocab(u64::MAX, ranks(0, 2)), None);
}

#[test]
fn what_does_not_divide_or_match_is_refused_and_says_what() {
    let refused = |slices: &[&str]| {
        let error = slicer_of("LlamaForCausalLM", &json!({}), slices, true).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        refused(&["tp=0/3"]),
        "num_attention_heads 8 cannot be divided among 3 ranks"
    );
    assert_eq!(
        refused(&["tp=0/16"]),
        "num_attention_heads 8 cannot be divided among 16 ranks"
    );
    assert_eq!(
        refused(&["layers=0..5"]),
        "layers=0..5 of a model with 4 layers"
    );
    assert_eq!(
        refused(&["experts=0..1"]),
        "experts=0..1 of a model with 0 experts"
    );
    let kv = json!({"num_attention_heads": 12, "num_key_value_heads": 3});
    let error = slicer_of("LlamaForCausalLM", &kv, &["tp=0/4"], true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "num_key_value_heads 3 cannot be divided among 4 ranks"
    );

    let slicer = slicer("LlamaForCausalLM", &["tp=0/2"]);
    let error = |name: &str, shape: &[u64]| slicer.cut(name, shape).unwrap_err().to_string();
    let gate = "model.layers.0.mlp.gate_proj.weight";
    assert!(error(gate, &[49, 32]).contains("49 cannot be divided among 2 ranks"));
    assert!(error(gate, &[48]).contains("2 dimensions are expected"));
    let q = "model.layers.0.self_attn.q_proj.weight";
    assert!(error(q, &[64, 32]).contains("32 rows are expected of 8 heads"));
    assert!(
        error("model.layers.4.self_attn.q_proj.weight", &[32, 32]).contains("hidden_layers is 4")
    );
    for name in [
        "model.layers.00.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.weight_scale",
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.block_sparse_moe.gate.weight",
        "layers.0.attention.wq.weight",
        "lm_head",
        "",
    ] {
        assert!(error(name, &[32, 32]).contains("is not known"), "{name}");
    }
    let huge = slicer_of(
        "Phi3ForCausalLM",
        &json!({"head_dim": u64::MAX / 2}),
        &["tp=0/2"],
        true,
    );
    let qkv = huge
        .unwrap()
        .cut("model.layers.0.self_attn.qkv_proj.weight", &[48, 32]);
    assert!(matches!(qkv, Err(SliceError::Shape { .. })));
}

type Matrix = Vec<Vec<i64>>;

fn take(cut: &Cut, matrix: &Matrix) -> Matrix {
    match cut {
        Cut::Whole => matrix.clone(),
        Cut::Part { dim: 0, parts } => {
            let rows = parts.iter().cloned().flatten();
            rows.map(|row| matrix[row as usize].clone()).collect()
        }
        Cut::Part { parts, .. } => {
            let columns: Vec<u64> = parts.iter().cloned().flatten().collect();
            let row = |row: &Vec<i64>| columns.iter().map(|at| row[*at as usize]).collect();
            matrix.iter().map(row).collect()
        }
    }
}

fn apply(matrix: &Matrix, x: &[i64]) -> Vec<i64> {
    let row = |row: &Vec<i64>| row.iter().zip(x).map(|(a, b)| a * b).sum();
    matrix.iter().map(row).collect()
}

/// One layer: attention over a single position without a softmax, and a gated MLP. `qkv` and `gate_up`
/// are q, k, v and gate, up over one another, as many heads of each as fit.
fn layer(
    [qkv, o, gate_up, down]: [&Matrix; 4],
    (heads, kv_heads, dim): (usize, usize, usize),
    x: &[i64],
) -> Vec<i64> {
    let all = apply(qkv, x);
    let (q, rest) = all.split_at(heads * dim);
    let (k, v) = rest.split_at(kv_heads * dim);
    let mut attended = Vec::new();
    for (head, q) in q.chunks(dim).enumerate() {
        let at = head / (heads / kv_heads) * dim;
        let score: i64 = q.iter().zip(&k[at..at + dim]).map(|(a, b)| a * b).sum();
        attended.extend(v[at..at + dim].iter().map(|v| score * v));
    }
    let gated = apply(gate_up, x);
    let (gate, up) = gated.split_at(gated.len() / 2);
    let gated: Vec<i64> = gate.iter().zip(up).map(|(a, b)| a * b).collect();
    let sum = apply(o, &attended).into_iter().zip(apply(down, &gated));
    sum.map(|(a, b)| a + b).collect()
}

proptest! {
    #[test]
    fn the_ranks_of_a_layer_add_up_to_the_whole(
        (kv_heads, groups, dim) in (1_usize..4, 1_usize..5, 1_usize..4),
        (hidden, ffn) in (1_usize..6, 1_usize..5),
        seed in any::<u64>(),
    ) {
        let heads = kv_heads * groups;
        let mut state = seed;
        let mut matrix = |rows: usize, columns: usize| -> Matrix {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as i64 % 7 - 3
            };
            (0..rows).map(|_| (0..columns).map(|_| next()).collect()).collect()
        };
        let ranks = (1..=heads).filter(|of| {
            heads.is_multiple_of(*of) && (kv_heads.is_multiple_of(*of) || of.is_multiple_of(kv_heads))
        });
        for of in ranks {
            let ffn = ffn * of;
            let q = matrix(heads * dim, hidden);
            let (k, v) = (matrix(kv_heads * dim, hidden), matrix(kv_heads * dim, hidden));
            let (gate, up) = (matrix(ffn, hidden), matrix(ffn, hidden));
            let (o, down) = (matrix(hidden, heads * dim), matrix(hidden, ffn));
            let x: Vec<i64> = matrix(1, hidden).remove(0);
            let qkv = [q.clone(), k.clone(), v.clone()].concat();
            let gate_up = [gate.clone(), up.clone()].concat();
            let whole = layer([&qkv, &o, &gate_up, &down], (heads, kv_heads, dim), &x);
            let more = json!({"num_attention_heads": heads, "num_key_value_heads": kv_heads,
                "head_dim": dim, "hidden_size": hidden});
            for fused in [false, true] {
                let class = if fused { "Phi3ForCausalLM" } else { "LlamaForCausalLM" };
                let mut sum = vec![0; hidden];
                for rank in 0..of {
                    let slice = format!("tp={rank}/{of}");
                    let slicer = slicer_of(class, &more, &[&slice], true).unwrap();
                    let part = |module: &str, matrix: &Matrix| {
                        let shape = [matrix.len() as u64, matrix[0].len() as u64];
                        let name = format!("model.layers.0.{module}.weight");
                        take(&slicer.cut(&name, &shape).unwrap().unwrap(), matrix)
                    };
                    let (qkv, gate_up) = if fused {
                        (part("self_attn.qkv_proj", &qkv), part("mlp.gate_up_proj", &gate_up))
                    } else {
                        let q = part("self_attn.q_proj", &q);
                        let k = part("self_attn.k_proj", &k);
                        let v = part("self_attn.v_proj", &v);
                        let gate_up = [part("mlp.gate_proj", &gate), part("mlp.up_proj", &up)];
                        ([q, k, v].concat(), gate_up.concat())
                    };
                    let (o, down) = (part("self_attn.o_proj", &o), part("mlp.down_proj", &down));
                    let heads = heads / of;
                    let kv_heads = (kv_heads / of).max(1);
                    let of_rank = layer([&qkv, &o, &gate_up, &down], (heads, kv_heads, dim), &x);
                    for (sum, part) in sum.iter_mut().zip(of_rank) {
                        *sum += part;
                    }
                }
                prop_assert_eq!(&sum, &whole, "{} with {} ranks", class, of);
            }
        }
    }
}
