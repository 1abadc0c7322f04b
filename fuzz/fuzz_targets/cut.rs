//! `tensors/1` over headers of all shapes: chunks cover the file, none is empty or over 16 MiB, and
//! each large tensor starts one.
//!
//! Input: per tensor a byte each of layer, type and rank, then two bytes a dimension: its value, and
//! by how many bits it is shifted.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use lode_store::cut::{CHUNK_BYTES_MAX, tensor_cuts};
use lode_tensors::{Dtype, parse};

fuzz_target!(|input: &[u8]| {
    let mut input = input.iter().copied();
    let (mut json, mut end) = (String::from("{"), 0_u64);
    for at in 0.. {
        let (Some(layer), Some(dtype), Some(rank)) = (input.next(), input.next(), input.next())
        else {
            break;
        };
        let dtype = Dtype::ALL[usize::from(dtype) % 22];
        let mut shape: Vec<u64> = Vec::new();
        for _ in 0..rank % 5 {
            let (value, shift) = (input.next().unwrap_or(1), input.next().unwrap_or(0));
            shape.push(u64::from(value) << (shift % 20));
        }
        let elements = shape
            .iter()
            .try_fold(1_u64, |product, &dim| product.checked_mul(dim));
        let Some(bytes) = elements.and_then(|elements| dtype.bytes_of(elements)) else {
            continue;
        };
        // Up to 64 GiB, so that the list of lengths stays small.
        if end + bytes > 1 << 36 {
            continue;
        }
        let comma = if json.len() == 1 { "" } else { "," };
        json += &format!(
            r#"{comma}"l.{layer}.{at}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{end},{}]}}"#,
            end + bytes
        );
        end += bytes;
    }
    json.push('}');
    let mut head = (json.len() as u64).to_le_bytes().to_vec();
    head.extend(json.as_bytes());
    let file_len = head.len() as u64 + end;
    let header = parse(&head, file_len).expect("made by the rules");
    let mut starts = BTreeSet::new();
    let mut at = 0_u64;
    for length in tensor_cuts(&header, file_len).lengths {
        assert!((1..=CHUNK_BYTES_MAX).contains(&length));
        starts.insert(at);
        at += u64::from(length);
    }
    assert_eq!(at, file_len);
    for tensor in &header.tensors {
        if tensor.range.len() >= 1 << 20 {
            assert!(starts.contains(&tensor.range.start), "{}", tensor.name);
        }
    }
});
