//! Files of each format read as the points that they say, and wrong ones are refused with the record at fault.

use std::io::Cursor;

use serde_json::json;

use super::*;
use crate::limits::{CSV_COLUMNS_MAX, DIM_MAX, NPY_HEADER_BYTES_MAX};

fn mapping() -> Mapping {
    Mapping {
        id: Some("id".into()),
        vector: Some("v".into()),
        ..Mapping::default()
    }
}

fn all(records: &mut dyn Records) -> Result<Vec<Point>, ImportError> {
    let mut points = Vec::new();
    loop {
        let batch = records.next_batch(2)?;
        assert!(batch.len() <= 2);
        if batch.is_empty() {
            return Ok(points);
        }
        points.extend(batch);
    }
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

#[test]
fn rows_of_an_npy_file_are_points_by_number() {
    let data: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n";
    let mapping = Mapping {
        first_id: 10,
        ..Mapping::default()
    };
    let file = npy(header, &data);
    let points = all(&mut NpyRows::open(&file[..], mapping.clone()).unwrap()).unwrap();
    let ids: Vec<_> = points.iter().map(|point| point.id).collect();
    assert_eq!(ids, [10.into(), 11.into(), 12.into()]);
    assert_eq!(points[2].vectors[""], Vector::Dense(vec![5.0, 6.0]));
    let mut cut = NpyRows::open(&file[..file.len() - 1], mapping).unwrap();
    assert!(matches!(all(&mut cut), Err(ImportError::Io(_))));
}

#[test]
fn arrays_that_are_no_vectors_are_refused() {
    let open = |header: &str| NpyRows::open(&npy(header, &[])[..], Mapping::default()).map(drop);
    let array = |descr: &str, order: &str, shape: &str| {
        open(&format!(
            "{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
        ))
    };
    assert!(array("<f4", "False", "(3, 2)").is_ok());
    assert!(array("<f2", "False", &format!("(3, {DIM_MAX})")).is_ok());
    for (descr, order, shape) in [
        (">f4", "False", "(3, 2)"),
        ("<i8", "False", "(3, 2)"),
        ("<f4", "True", "(3, 2)"),
        ("<f4", "False", "(3,)"),
        ("<f4", "False", "(3, 0)"),
        ("<f4", "False", "(1, 2, 3)"),
        ("<f4", "False", "(3, 65537)"),
        ("<f4", "False", "(3, 99999999999999999999)"),
    ] {
        assert!(
            array(descr, order, shape).is_err(),
            "{descr} {order} {shape}"
        );
    }
    let mut long = b"\x93NUMPY\x02\x00".to_vec();
    long.extend_from_slice(
        &u32::try_from(NPY_HEADER_BYTES_MAX + 1)
            .unwrap()
            .to_le_bytes(),
    );
    let error = NpyRows::open(&long[..], Mapping::default()).unwrap_err();
    assert!(
        matches!(error, ImportError::Format(_)),
        "before memory is taken: {error}"
    );
}

#[test]
fn a_tensor_of_a_safetensors_file_is_points() {
    let data = json!({"v": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]},
        "w": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}});
    let header = data.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&[0x00, 0x3c, 0x00, 0x40, 0x00, 0xbc, 0x00, 0x00, 0, 0, 0, 0]);
    let open = |name: &str| {
        let mapping = Mapping {
            vector: Some(name.into()),
            ..Mapping::default()
        };
        SafetensorsRows::open(Cursor::new(&file), mapping)
    };
    let points = all(&mut open("v").unwrap()).unwrap();
    assert_eq!(points[0].vectors[""], Vector::Dense(vec![1.0, 2.0]));
    assert_eq!(points[1].vectors[""], Vector::Dense(vec![-1.0, 0.0]));
    assert!(open("w").is_err(), "one dimension");
    assert!(open("x").is_err(), "no such tensor");
    assert!(SafetensorsRows::open(Cursor::new(b"no file"), Mapping::default()).is_err());
}

#[test]
fn json_lines_are_points_with_payload() {
    let text = "{\"id\": 1, \"v\": [1, 2.5], \"tag\": \"a\", \"n\": 3}\n\n  \
        {\"id\": \"550e8400-e29b-41d4-a716-446655440000\", \"v\": {\"indices\": [5, 1], \"values\": [1, 2]}}";
    let points = all(&mut JsonLines::new(text.as_bytes(), mapping())).unwrap();
    assert_eq!(points[0].vectors[""], Vector::Dense(vec![1.0, 2.5]));
    assert_eq!(points[0].payload.to_json(), json!({"n": 3, "tag": "a"}));
    let sparse = SparseVector::new(&[1, 5], &[2.0, 1.0]).unwrap();
    assert_eq!(points[1].vectors[""], Vector::Sparse(sparse));
    let some = Mapping {
        payload: Some(vec!["tag".into()]),
        ..mapping()
    };
    let points = all(&mut JsonLines::new(text.as_bytes(), some)).unwrap();
    assert_eq!(points[0].payload.to_json(), json!({"tag": "a"}));
    for (text, record) in [
        ("{\"id\": 1, \"v\": [1]}\n[]", 2),
        ("{", 1),
        ("{\"id\": 1}", 1),
        ("{\"v\": [1]}", 1),
        ("{\"id\": 1, \"v\": [\"x\"]}", 1),
        ("{\"id\": -1, \"v\": [1]}", 1),
    ] {
        let error = all(&mut JsonLines::new(text.as_bytes(), mapping())).unwrap_err();
        assert!(
            matches!(error, ImportError::Record { record: at, .. } if at == record),
            "{text}: {error}"
        );
    }
}

#[test]
fn csv_lines_are_points_with_payload() {
    let text = "\u{feff}id,v,tag,n,f,b,z\r\n1,\"[1, 2]\",\"say \"\"hi\"\", you\",7,1.5,true,007\r\n\n2,\"[3, 4]\",\"two\nlines\",,,,\n";
    for capacity in [1, 3, 4096] {
        let from = std::io::BufReader::with_capacity(capacity, text.as_bytes());
        let points = all(&mut CsvRecords::open(from, mapping()).unwrap()).unwrap();
        assert_eq!(points.len(), 2);
        assert_eq!(points[0].vectors[""], Vector::Dense(vec![1.0, 2.0]));
        let first = json!({"tag": "say \"hi\", you", "n": 7, "f": 1.5, "b": true, "z": "007"});
        assert_eq!(points[0].payload.to_json(), first);
        assert_eq!(points[1].payload.to_json(), json!({"tag": "two\nlines"}));
    }
    for text in [
        "id,v\n1",
        "id,v\n1,\"[1]",
        "id,v\n1,x",
        "id,v\n,\"[1]\"",
        "id,v\n1,\"[1]\",3",
    ] {
        let mut records = CsvRecords::open(text.as_bytes(), mapping()).unwrap();
        assert!(all(&mut records).is_err(), "{text}");
    }
    assert!(CsvRecords::open(&b"a,a\n"[..], mapping()).is_err());
    assert!(CsvRecords::open(&b""[..], mapping()).is_err());
}

#[test]
fn more_than_a_bound_is_refused() {
    let names = |count: usize| {
        (0..count)
            .map(|n| format!("c{n}"))
            .collect::<Vec<_>>()
            .join(",")
            + "\n"
    };
    assert!(CsvRecords::open(names(CSV_COLUMNS_MAX).as_bytes(), mapping()).is_ok());
    assert!(CsvRecords::open(names(CSV_COLUMNS_MAX + 1).as_bytes(), mapping()).is_err());
    let line = |len: usize| {
        let start = "{\"id\": 1, \"v\": [1], \"s\": \"";
        format!("{start}{}\"}}", "x".repeat(len - start.len() - 2))
    };
    let some = Mapping {
        payload: Some(Vec::new()),
        ..mapping()
    };
    let fits = line(IMPORT_RECORD_BYTES_MAX);
    assert_eq!(
        all(&mut JsonLines::new(fits.as_bytes(), some.clone()))
            .unwrap()
            .len(),
        1
    );
    let long = line(IMPORT_RECORD_BYTES_MAX + 1);
    let error = all(&mut JsonLines::new(long.as_bytes(), some)).unwrap_err();
    assert!(matches!(error, ImportError::TooLong { record: 1 }));
}

/// A file of testdata/import.
fn parquet(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/import");
    std::fs::read(folder.join(name)).unwrap()
}

fn parquet_points(bytes: Vec<u8>, mapping: Mapping) -> Result<Vec<Point>, ImportError> {
    all(&mut ParquetRows::open(bytes::Bytes::from(bytes), mapping)?)
}

#[test]
fn rows_of_a_parquet_file_are_points_with_payload() {
    let mapping = |id: &str, vector: &str, payload: Option<&[&str]>| Mapping {
        id: Some(id.into()),
        vector: Some(vector.into()),
        payload: payload.map(|fields| fields.iter().map(ToString::to_string).collect()),
        ..Mapping::default()
    };
    let file = || parquet("vectors.parquet");
    let points = parquet_points(file(), mapping("id", "embedding", None)).unwrap();
    assert_eq!(points.len(), 7);
    assert_eq!(points[3].id, PointId::Number(13));
    assert_eq!(points[3].vectors[""], Vector::Dense(vec![3.5, 1.0, -2.0]));
    let payload = points[3].payload.to_json();
    assert_eq!(payload["source"], json!("page 3"));
    assert_eq!(payload["year"], json!(2023));
    assert_eq!(payload["when"], json!("2024-01-04T12:30:00.250+00:00"));
    assert!(crate::datetime::parse_datetime(payload["when"].as_str().unwrap()).is_some());
    assert_eq!(payload["tags"], json!(["t3", "all"]));
    assert_eq!(payload["meta"], json!({"lang": "en", "score": 0.75}));
    assert_eq!(points[2].payload.to_json().get("source"), None);
    for (vector, expected) in [("fixed", [4.0, 0.25]), ("half", [4.0, 0.5])] {
        let some = mapping("uuid", vector, Some(&["year"]));
        let points = parquet_points(file(), some).unwrap();
        assert_eq!(
            points[4].vectors[""],
            Vector::Dense(expected.to_vec()),
            "{vector}"
        );
        assert!(matches!(points[4].id, PointId::Uuid([4, 255, 0, ..])));
        assert_eq!(points[4].payload.to_json(), json!({"year": 2024}));
    }
    let snappy = parquet_points(parquet("snappy.parquet"), mapping("id", "embedding", None));
    assert_eq!(snappy.unwrap().len(), 7);
    assert!(parquet_points(file(), mapping("id", "none", None)).is_err());
    assert!(parquet_points(file(), mapping("id", "source", None)).is_err());
}

#[test]
fn a_damaged_parquet_file_is_an_error_and_no_panic() {
    let file = parquet("vectors.parquet");
    for at in (0..file.len()).step_by(7) {
        let mut changed = file.clone();
        changed[at] ^= 0x55;
        let mapping = Mapping {
            vector: Some("embedding".into()),
            ..Mapping::default()
        };
        if let Ok(points) = parquet_points(changed, mapping.clone()) {
            assert!(points.len() <= 7);
        }
        assert!(
            parquet_points(file[..at].to_vec(), mapping).is_err(),
            "cut at {at}"
        );
    }
}

#[test]
fn a_parquet_file_past_a_bound_is_refused() {
    use crate::limits::{PARQUET_COLUMNS_MAX, PARQUET_FOOTER_BYTES_MAX};
    use ::parquet::{
        basic::Type as Physical,
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::types::Type,
    };

    let columns = |count: usize| {
        let column = |at: usize| {
            let name = if at == 0 {
                "vector".to_owned()
            } else {
                format!("c{at}")
            };
            let column = Type::primitive_type_builder(&name, Physical::INT32).build();
            std::sync::Arc::new(column.unwrap())
        };
        let schema = Type::group_type_builder("schema")
            .with_fields((0..count).map(column).collect())
            .build();
        let properties = std::sync::Arc::new(WriterProperties::new());
        let writer = SerializedFileWriter::new(Vec::new(), schema.unwrap().into(), properties);
        writer.unwrap().into_inner().unwrap()
    };
    let open = |bytes: Vec<u8>| parquet_points(bytes, Mapping::default());
    assert!(open(columns(PARQUET_COLUMNS_MAX)).is_ok());
    assert!(open(columns(PARQUET_COLUMNS_MAX + 1)).is_err());
    let footer = |len: u32| [&len.to_le_bytes()[..], b"PAR1"].concat();
    let error = |len| open(footer(len)).unwrap_err().to_string();
    assert!(!error(PARQUET_FOOTER_BYTES_MAX).contains("a footer of more than"));
    assert!(error(PARQUET_FOOTER_BYTES_MAX + 1).contains("a footer of more than"));
}
