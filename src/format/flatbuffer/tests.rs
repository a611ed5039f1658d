use bytes::Bytes;

use super::reader::MAX_DEPTH;
use super::*;

const IDENTIFIER: [u8; 4] = *b"TEST";

fn written(root: &TableValue) -> Vec<u8> {
    let mut bytes = Vec::new();
    let layout = Layout::new(root.clone(), &IDENTIFIER).unwrap();
    let length = layout.write(&mut bytes).unwrap();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

/// A root table with one `u8` field, 7, as the format's specification lays it out.
fn seven() -> Vec<u8> {
    let mut bytes = vec![16, 0, 0, 0];
    bytes.extend_from_slice(b"TEST");
    bytes.extend_from_slice(&[6, 0, 5, 0, 4, 0, 0, 0]);
    bytes.extend_from_slice(&[8, 0, 0, 0, 7]);
    bytes
}

fn everything() -> TableValue {
    let mut inner = TableValue::new();
    inner.scalar(0, -5i64, 0).scalar(1, 3u8, 0).text(2, "größe");
    let mut root = TableValue::new();
    root.scalar(0, true, false)
        .scalar(1, -2i8, 0)
        .scalar(2, 60_000u16, 0)
        .scalar(3, -0.0f32, 0.0)
        .scalar(4, 2.5f64, 0.0)
        .scalar(5, 9u32, 9)
        .text(6, "name")
        .table(7, inner.clone())
        .scalars(8, &[1i64, -1, i64::MIN])
        .scalars(9, &[true, false])
        .texts(10, vec!["a".into(), String::new(), "name".into()])
        .tables(11, vec![inner.clone(), TableValue::new(), inner.clone()])
        .data(12, Bytes::from_static(b"weights"), 16)
        .union(13, 2, inner)
        .outside_data(15, Bytes::from_static(b"far away"));
    root
}

#[test]
fn reads_and_writes_the_specified_bytes() {
    let reader_bytes = seven();
    let reader = Reader::new(&reader_bytes);
    assert_eq!(reader.root(&IDENTIFIER).unwrap().scalar(0, 0u8), Ok(7));
    let mut root = TableValue::new();
    root.scalar(0, 7u8, 0);
    assert_eq!(written(&root), seven());
}

#[test]
fn reads_what_it_wrote() {
    let bytes = written(&everything());
    let reader = Reader::new(&bytes);
    let root = reader.root(&IDENTIFIER).unwrap();
    assert_eq!(root.scalar(0, false), Ok(true));
    assert_eq!(root.scalar(1, 0i8), Ok(-2));
    assert_eq!(root.scalar(2, 0u16), Ok(60_000));
    assert_eq!(root.scalar(3, 0.0f32).unwrap().to_bits(), (-0.0f32).to_bits());
    assert_eq!(root.scalar(4, 0.0f64), Ok(2.5));
    assert_eq!(root.has(5), Ok(false));
    assert_eq!(root.scalar(5, 9u32), Ok(9));
    assert_eq!(root.text(6), Ok("name"));
    assert_eq!(root.text(5), Ok(""));
    assert_eq!(root.scalars(8), Ok(vec![1i64, -1, i64::MIN]));
    assert_eq!(root.scalars(9), Ok(vec![true, false]));
    assert_eq!(root.texts(10).unwrap(), ["a", "", "name"]);
    let inner = |table: Table| {
        Ok::<_, FlatbufferError>((table.scalar(0, 0i64)?, table.text(2)?.to_owned()))
    };
    let expected = (-5, "größe".to_owned());
    let empty = (0, String::new());
    assert_eq!(inner(root.table(7).unwrap().unwrap()).unwrap(), expected);
    assert_eq!(root.tables(11, inner).unwrap(), [expected.clone(), empty, expected.clone()]);
    let data = root.byte_range(12).unwrap().unwrap();
    assert_eq!(data.start % 16, 0);
    assert_eq!(&bytes[data], b"weights");
    let (code, table) = root.union(13).unwrap().unwrap();
    assert_eq!((code, inner(table.unwrap()).unwrap()), (2, expected));
    let far = root.scalar(15, 0u64).unwrap() as usize;
    assert_eq!(root.scalar(16, 0u64), Ok(8));
    assert_eq!(&bytes[far..far + 8], b"far away");
    assert_eq!(bytes[far + 8..], [0; 16]);
}

#[test]
fn wide_scalars_and_vectors_are_aligned() {
    let bytes = written(&everything());
    let reader = Reader::new(&bytes);
    let root = reader.root(&IDENTIFIER).unwrap();
    for id in [4, 15, 16] {
        assert_eq!(root.field(id, 8).unwrap().unwrap() % 8, 0);
    }
    let (_, vector) = reader.vector_at(root.field(8, 4).unwrap().unwrap(), 8).unwrap();
    assert_eq!(vector.start % 8, 0);
}

#[test]
fn equal_vtables_and_texts_are_shared() {
    let mut row = TableValue::new();
    row.text(0, "a rather long name");
    let length = |count| {
        let mut root = TableValue::new();
        root.tables(0, vec![row.clone(); count]);
        written(&root).len()
    };
    assert_eq!(length(101) - length(1), 100 * 12);
}

#[test]
fn defects_have_their_errors() {
    let check = |position: usize, value: &[u8], expected: FlatbufferError| {
        let mut bytes = seven();
        bytes[position..position + value.len()].copy_from_slice(value);
        let reader = Reader::new(&bytes);
        let field = reader.root(&IDENTIFIER).and_then(|root| root.scalar(0, 0u8));
        assert_eq!(field, Err(expected));
    };
    check(4, b"NOPE", FlatbufferError::WrongIdentifier { found: *b"NOPE" });
    check(0, &[0], FlatbufferError::BadOffset { at: 0 });
    check(0, &[21], FlatbufferError::BadOffset { at: 0 });
    check(0, &[18], FlatbufferError::Truncated { at: 18 });
    check(16, &[17], FlatbufferError::BadVtable { at: 16 });
    check(8, &[5], FlatbufferError::BadVtable { at: 16 });
    check(8, &[2], FlatbufferError::BadVtable { at: 16 });
    check(10, &[6], FlatbufferError::Truncated { at: 16 });
    check(10, &[4], FlatbufferError::FieldOutsideTable { at: 16 });
    check(12, &[3], FlatbufferError::FieldOutsideTable { at: 16 });

    let mut root = TableValue::new();
    root.text(0, "?");
    let mut bytes = written(&root);
    let question_mark = bytes.len() - 2;
    bytes[question_mark] = 0xff;
    let reader = Reader::new(&bytes);
    let text = reader.root(&IDENTIFIER).and_then(|root| root.text(0));
    assert_eq!(text, Err(FlatbufferError::NotUtf8 { at: question_mark }));
}

#[test]
fn deep_nesting_ends() {
    let mut deep = TableValue::new();
    for _ in 0..MAX_DEPTH + 2 {
        let mut outer = TableValue::new();
        outer.table(0, deep);
        deep = outer;
    }
    let bytes = written(&deep);
    let reader = Reader::new(&bytes);
    let mut table = reader.root(&IDENTIFIER).unwrap();
    let error = loop {
        match table.table(0) {
            Ok(inner) => table = inner.unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, FlatbufferError::TooDeep { .. }));
}

#[test]
fn vectors_that_share_their_elements_cannot_fill_memory() {
    let mut row = TableValue::new();
    row.scalars(0, &vec![1i32; 10_000]);
    let mut root = TableValue::new();
    root.tables(0, vec![row; 10_000]);
    let bytes = written(&root);
    assert!(bytes.len() < 200_000);
    let reader = Reader::new(&bytes);
    let root = reader.root(&IDENTIFIER).unwrap();
    let rows = root.tables(0, |row| row.scalars::<i32>(0));
    assert!(matches!(rows, Err(FlatbufferError::TooMuch { .. })));
}

#[test]
fn data_that_lie_over_each_other_are_limited() {
    let data = Bytes::from(vec![1; 1 << 20]);
    let check = |count: usize, within_limit: bool| {
        let mut row = TableValue::new();
        row.data(0, data.clone(), 16);
        let mut root = TableValue::new();
        root.tables(0, vec![row; count]);
        let bytes = written(&root);
        assert!(bytes.len() < data.len() + 1000);
        let reader = Reader::new(&bytes);
        let rows = reader.root(&IDENTIFIER).unwrap().tables(0, |row| row.byte_range(0));
        assert_eq!(rows.is_ok(), within_limit);
    };
    check(4, true);
    check(5, false);
}

#[test]
fn positions_past_two_gib_are_an_error() {
    let weights = Bytes::from(vec![0; 1 << 27]);
    let mut root = TableValue::new();
    for id in 0..17 {
        root.data(id, weights.slice(usize::from(id)..), 16);
    }
    let layout = Layout::new(root, &IDENTIFIER);
    assert!(matches!(layout.unwrap_err(), FlatbufferError::TooLarge { .. }));
}
