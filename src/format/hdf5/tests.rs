//! Files of h5py (fixtures/make_keras.py), whole and damaged.

use super::*;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

fn fixture(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keras");
    std::fs::read(folder.join(name)).unwrap()
}

fn parse(name: &str) -> Group {
    read(fixture(name).into()).unwrap()
}

#[test]
fn every_layout_gives_the_same_numbers() {
    let file = parse("stored.h5");
    let dataset = |name: &str| file.dataset(name).unwrap();
    let ramp: Vec<f32> = (0..63).map(|n| n as f32).collect();
    let f32s = |name: &str| {
        let data = dataset(name).data().unwrap();
        data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
    };
    for name in ["gzip", "plain"] {
        assert_eq!(dataset(name).shape, [7, 9]);
        assert_eq!(dataset(name).element, Element::F32);
        assert_eq!(f32s(name), ramp, "{name}");
    }
    let bytes = dataset("checksum").data().unwrap();
    let integers: Vec<i16> =
        bytes.as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b)).collect();
    assert_eq!(integers, (0..63).collect::<Vec<i16>>());
    assert_eq!(dataset("checksum").element, Element::Integer { size: 2, signed: true });
    assert_eq!(dataset("half").element, Element::F16);
    assert_eq!(dataset("half").data().unwrap()[2..4], half::f16::ONE.to_le_bytes());
    assert_eq!(dataset("scalar").shape, [0usize; 0]);
    assert_eq!(dataset("scalar").data().unwrap()[..], 2.5f64.to_le_bytes());
    assert_eq!(dataset("empty").shape, [0, 3]);
    assert!(dataset("empty").data().unwrap().is_empty());
}

#[test]
fn attributes_and_many_members_are_read() {
    let file = parse("stored.h5");
    assert_eq!(file.attributes["names"].texts().unwrap(), ["one", "three", ""]);
    assert_eq!(file.attributes["texts"].texts().unwrap(), ["eins", "drei"]);
    let many = file.group("many").unwrap();
    assert_eq!(many.children.len(), 20);
    assert!(many.group("group 19").unwrap().attributes.contains_key("number"));
    assert!(file.get("many/group 20").is_none() && file.get("gzip/x").is_none());
}

#[test]
fn newer_superblocks_and_headers_are_read() {
    let file = parse("newest.h5");
    let data = file.dataset("a/b/c").unwrap().data().unwrap();
    assert_eq!(data[8..16], 1i64.to_le_bytes());
    assert_eq!(file.group("a").unwrap().attributes["text"].text(), Some("new"));
}

#[test]
fn defects_are_told() {
    fn check(change: impl Fn(&mut Vec<u8>), expected: Hdf5Error) {
        let mut bytes = fixture("net_2.h5");
        change(&mut bytes);
        assert_eq!(read(bytes.into()).err(), Some(expected));
    }
    let find =
        |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    check(|b| b[0] = 0, Hdf5Error::NotHdf5);
    check(|b| b.truncate(20), Hdf5Error::Truncated { what: "superblock" });
    check(|b| b[8] = 9, Hdf5Error::UnknownVersion { what: "superblock", version: 9 });
    check(|b| b[13] = 3, Hdf5Error::Impossible { what: "width of addresses" });
    check(
        |b| {
            let at = find(b, b"HEAP");
            b[at] = b'h';
        },
        Hdf5Error::BadSignature {
            what: "local heap",
            at: find(&fixture("net_2.h5"), b"HEAP") as u64,
        },
    );
    check(|b| b.truncate(b.len() / 2), {
        let mut bytes = fixture("net_2.h5");
        bytes.truncate(bytes.len() / 2);
        let error = read(bytes.into()).unwrap_err();
        assert!(matches!(error, Hdf5Error::Truncated { .. }), "{error}");
        error
    });
    // the root's header is the first member's as well
    let root = u64::from_le_bytes(fixture("net_2.h5")[64..72].try_into().unwrap());
    check(
        |b| {
            let at = find(b, b"SNOD") + 16;
            b[at..at + 8].copy_from_slice(&root.to_le_bytes());
        },
        Hdf5Error::ReachedTwice { at: root },
    );
}

/// Bits flipped, numbers replaced, ends cut off: an error or a tree, within the time that a test may take.
#[test]
fn damaged_files_end_as_errors() {
    let rounds = std::env::var("FLIPS").map_or(3000, |n| n.parse().unwrap());
    let mut random = Pcg64::seed_from_u64(11);
    for name in ["stored.h5", "newest.h5", "net_2.h5"] {
        let good = fixture(name);
        for _ in 0..rounds {
            let mut bytes = good.clone();
            for _ in 0..1 + random.next_u32() % 4 {
                let at = random.next_u32() as usize % bytes.len();
                match random.next_u32() % 4 {
                    0 => bytes[at] = [0, 1, 0x7f, 0xff][random.next_u32() as usize % 4],
                    1 => {
                        let from = random.next_u32() as usize % bytes.len();
                        let length = 8.min(bytes.len() - at.max(from));
                        bytes.copy_within(from..from + length, at);
                    }
                    _ => bytes[at] ^= 1 << (random.next_u32() % 8),
                }
            }
            if random.next_u32() % 8 == 0 {
                bytes.truncate(random.next_u32() as usize % bytes.len());
            }
            if let Ok(file) = read(bytes.into()) {
                read_all(&file);
            }
        }
    }
}

fn read_all(group: &Group) {
    for child in group.children.values() {
        match child {
            Node::Group(group) => read_all(group),
            Node::Dataset(dataset) => drop(dataset.data()),
        }
    }
}
