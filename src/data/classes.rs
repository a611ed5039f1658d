//! The right class of each row of a data set, as the data says it, and what that is to a model.

/// By row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowClasses {
    Numbers(Vec<i64>),
    /// Names, and which of them each row has.
    Names {
        names: Vec<String>,
        of_rows: Vec<usize>,
    },
}

impl RowClasses {
    /// Of words: numbers if all are whole numbers, else names in sorted order.
    pub fn of_words(words: &[String]) -> RowClasses {
        let numbers: Option<Vec<i64>> = words.iter().map(|word| word.parse().ok()).collect();
        if let Some(numbers) = numbers {
            return RowClasses::Numbers(numbers);
        }
        let mut names = words.to_vec();
        names.sort();
        names.dedup();
        let of_rows = words.iter().map(|word| names.binary_search(word).unwrap_or(0)).collect();
        RowClasses::Names { names, of_rows }
    }

    pub fn rows(&self) -> usize {
        match self {
            RowClasses::Numbers(rows) => rows.len(),
            RowClasses::Names { of_rows, .. } => of_rows.len(),
        }
    }

    /// The class of each row, of a model with `count` classes called `labels`: the one of the same name, without regard
    /// to case; else the number that the name is; else the name's place among as many sorted names as there are classes.
    ///
    /// # Errors
    /// Says what does not fit, for a note: the rows can be used without classes.
    pub fn of_model(&self, labels: &[String], count: usize) -> Result<Vec<usize>, String> {
        let fits = |number: i64| usize::try_from(number).ok().filter(|&class| class < count);
        match self {
            RowClasses::Numbers(numbers) => {
                let class = |(row, &number): (usize, &i64)| {
                    let last = count.saturating_sub(1);
                    fits(number)
                        .ok_or(format!("row {row} has class {number}, the model 0 to {last}"))
                };
                numbers.iter().enumerate().map(class).collect()
            }
            RowClasses::Names { names, of_rows } => {
                let plain = |name: &str| name.trim().replace('_', " ").to_lowercase();
                let labels: Vec<String> = labels.iter().map(|label| plain(label)).collect();
                let labelled = |name: &String| labels.iter().position(|l| *l == plain(name));
                let numbered = |name: &String| name.parse().ok().and_then(fits);
                let by_label: Option<Vec<usize>> = names.iter().map(labelled).collect();
                let by_label = by_label.filter(|classes| classes.iter().all(|&c| c < count));
                let by_number = || names.iter().map(numbered).collect::<Option<Vec<usize>>>();
                let in_order = || (names.len() == count).then(|| (0..count).collect());
                let classes: Option<Vec<usize>> = by_label.or_else(by_number).or_else(in_order);
                let classes = classes.ok_or_else(|| {
                    let some: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
                    let more = if names.len() > some.len() { ", …" } else { "" };
                    format!(
                        "the {} classes '{}'{more} are not those of the model, which has {count}",
                        names.len(),
                        some.join("', '")
                    )
                })?;
                Ok(of_rows.iter().map(|&name| classes[name]).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| word.to_string()).collect()
    }

    #[test]
    fn names_are_labels_or_numbers_or_sorted() {
        let check = |words: &[&str], labels: &[&str], count, expected: &[usize]| {
            let found = RowClasses::of_words(&strings(words)).of_model(&strings(labels), count);
            assert_eq!(found, Ok(expected.to_vec()), "{words:?}");
        };
        check(&["dog", "cat", "dog"], &["dog", "cat", "owl"], 3, &[0, 1, 0]);
        check(&["Tabby_cat", "owl "], &["owl", "tabby cat"], 2, &[1, 0]);
        check(&["10", "2", "0"], &[], 11, &[10, 2, 0]);
        check(&["dog", "cat", "owl"], &[], 3, &[1, 0, 2]);
        // one name that is no label: none of them is taken as such
        check(&["dog", "cat", "emu"], &["dog", "cat", "owl"], 3, &[1, 0, 2]);
    }

    #[test]
    fn classes_that_the_model_does_not_have_are_told() {
        let check = |words: &[&str], labels: &[&str], count, expected: &str| {
            let found = RowClasses::of_words(&strings(words)).of_model(&strings(labels), count);
            assert_eq!(found.unwrap_err(), expected);
        };
        check(&["0", "3"], &[], 3, "row 1 has class 3, the model 0 to 2");
        check(&["-1"], &[], 3, "row 0 has class -1, the model 0 to 2");
        let few = "the 2 classes 'cat', 'dog' are not those of the model, which has 3";
        check(&["dog", "cat"], &["a", "b", "c"], 3, few);
        let many = "the 4 classes 'a', 'b', 'c', … are not those of the model, which has 3";
        check(&["d", "c", "b", "a"], &[], 3, many);
        // labels beyond the outputs
        check(
            &["a", "b"],
            &["a", "b"],
            1,
            "the 2 classes 'a', 'b' are not those of the model, which has 1",
        );
    }
}
