//! Which findings a question means, in SQL.

use std::collections::HashSet;

use crate::backend::{Value, list};
use crate::ids::{KeyId, PackageId};
use crate::intern;

/// Which findings are meant. Its parameters begin at `$1`.
pub(crate) struct Matcher {
    /// A condition on `findings f` that holds for the finding in all images.
    condition: String,
    values: Vec<Value>,
    /// The packages of the files, in which an image may differ.
    packages: Option<Packages>,
}

/// Packages, and the parameters that they are bound to.
struct Packages {
    ids: HashSet<PackageId>,
    parameters: String,
}

impl Matcher {
    /// Findings whose `column` has the value `value`.
    pub(crate) fn equal(column: &str, value: Value) -> Matcher {
        Matcher { condition: format!("f.{column} = $1"), values: vec![value], packages: None }
    }

    /// Findings in files with this path.
    pub(crate) fn path(path: &str) -> Matcher {
        let values = vec![intern::key(path).into(), intern::shortened(path).into()];
        Matcher { condition: "f.path_key = $1 AND f.path = $2".into(), values, packages: None }
    }

    /// Findings in files of these packages.
    pub(crate) fn packages(packages: Vec<PackageId>) -> Matcher {
        let (values, parameters) = list(packages.iter().copied().map(Value::from), 1);
        let packages = Packages { ids: packages.into_iter().collect(), parameters };
        Matcher { condition: "1 = 1".into(), values, packages: Some(packages) }
    }

    /// The same, under one key only.
    pub(crate) fn with_key(mut self, key: KeyId) -> Matcher {
        self.values.push(key.into());
        self.condition = format!("{} AND f.layer_key_id = ${}", self.condition, self.values.len());
        self
    }

    /// The condition on findings `f` that layers share.
    pub(crate) fn shared(&self) -> String {
        self.condition_on("f")
    }

    /// The condition on `image_findings x` and its findings `f`: the package that the image says counts.
    pub(crate) fn excepted(&self) -> String {
        self.condition_on("x")
    }

    /// The condition, with the packages in the column of the table `table`.
    fn condition_on(&self, table: &str) -> String {
        match &self.packages {
            Some(Packages { parameters, .. }) => {
                format!("{table}.package_id IN ({parameters}) AND {}", self.condition)
            }
            None => self.condition.clone(),
        }
    }

    /// The tables of [`Matcher::excepted`], the one that it narrows down first.
    pub(crate) fn excepted_from(&self) -> &'static str {
        match self.packages {
            Some(_) => "image_findings x CROSS JOIN findings f",
            None => "findings f CROSS JOIN image_findings x",
        }
    }

    /// The values of either condition.
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// The condition on rows of `image_findings x` that say anything of what is meant, if only that it is absent.
    pub(crate) fn relevant(&self) -> String {
        match self.packages {
            Some(_) => format!("(({}) OR ({}))", self.shared(), self.excepted()),
            None => self.condition.clone(),
        }
    }

    /// Whether a finding in a file of `package` is meant, which a condition on the finding admits.
    pub(crate) fn admits(&self, package: Option<PackageId>) -> bool {
        let packages = self.packages.as_ref();
        packages.is_none_or(|packages| package.is_some_and(|package| packages.ids.contains(&package)))
    }
}
