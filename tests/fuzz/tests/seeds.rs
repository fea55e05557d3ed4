//! The committed seeds as a plain test: each property holds for each of them, whole and cut short at every byte.

use std::path::Path;

use sluicegate_fuzz::PROPERTIES;

#[test]
fn every_property_holds_for_its_seeds_and_for_each_of_their_beginnings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (name, property) in PROPERTIES {
        let mut count = 0;
        for file in std::fs::read_dir(folder.join(name)).expect("a folder of seeds").flatten() {
            let bytes = std::fs::read(file.path()).expect("a readable seed");
            println!("{name}: {}", file.path().display());
            property(&bytes);
            // The beginnings of a long one are many and much alike.
            let step = 1 + bytes.len() / 200;
            (0..bytes.len()).step_by(step).for_each(|end| property(&bytes[..end]));
            count += 1;
        }
        assert!(count > 0, "{name} has no seed");
    }
}
