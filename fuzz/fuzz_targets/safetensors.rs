//! safetensors headers: never a panic, never more than the reference crate allows, and a subset of
//! what was read is read again.
//!
//! Input: one byte of mode; mode 0: a whole file; else: how many bytes of data follow a header made
//! of the rest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_tensors::{Format, parse, subset};

fuzz_target!(|input: &[u8]| {
    let Some((&mode, rest)) = input.split_first() else {
        return;
    };
    let mut file = Vec::new();
    if mode == 0 {
        file.extend(rest);
    } else {
        file.extend((rest.len() as u64).to_le_bytes());
        file.extend(rest);
        file.resize(file.len() + usize::from(mode), 7);
    }
    let Ok(header) = parse(&file, file.len() as u64) else {
        return;
    };
    if header.format != Format::Safetensors {
        return;
    }
    let mut end = header.len;
    for tensor in &header.tensors {
        assert_eq!(tensor.range.start, end);
        assert_eq!(
            tensor.dtype.bytes_of(tensor.elements()),
            Some(tensor.range.len())
        );
        let _ = tensor.rows(0, tensor.row_count());
        end = tensor.range.end;
    }
    assert_eq!(end, file.len() as u64);
    if let Err(error) = safetensors::SafeTensors::deserialize(&file) {
        // It buffers the keys that are skipped here, and so refuses more inside them.
        let json = serde_json::from_slice::<serde_json::Value>(&file[8..header.len as usize]);
        let extra = json.as_ref().is_ok_and(|json| {
            let tensors = json.as_object().into_iter().flatten();
            tensors
                .filter_map(|(_, info)| info.as_object())
                .any(|info| info.len() > 3)
        });
        assert!(extra || json.is_err(), "{error}");
    }
    let all: Vec<_> = (0..header.tensors.len()).collect();
    let made = subset(&header, &file, &all).expect("all tensors once");
    let again = parse(&made.header, made.len).expect("what is written is valid");
    assert_eq!(again.tensors.len(), header.tensors.len());
    assert_eq!(again.metadata, header.metadata);
});
