//! Registered schemas.

use serde_json::json;
use trough_core::{SchemaId, records::Schema};
use trough_reql::r;

use super::{Catalog, CatalogError, Result, SCHEMA, majority};

impl Catalog {
    /// All schemas, ordered by id.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn schemas(&self) -> Result<Vec<Schema>> {
        let mut all: Vec<Schema> = self.read_vec("read the schemas", &r::table(SCHEMA)).await?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// One schema, if it is registered.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn schema(&self, id: &SchemaId) -> Result<Option<Schema>> {
        self.read_one("read a schema", &majority(SCHEMA).get(id.as_str())).await
    }

    /// One schema that must be registered.
    ///
    /// # Errors
    /// [`CatalogError::UnknownSchema`] if it is not; else as [`Catalog::schema`].
    pub async fn require_schema(&self, id: &SchemaId) -> Result<Schema> {
        self.schema(id).await?.ok_or_else(|| CatalogError::UnknownSchema { id: id.clone() })
    }

    /// Registers or replaces a schema; whether it is new. The SQL is not looked at.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn put_schema(&self, schema: &Schema) -> Result<bool> {
        let put = r::table(SCHEMA)
            .insert(r::expr(json!({"id": schema.id, "sql": schema.sql})))
            .conflict("replace")
            .durability("hard");
        Ok(self.write("register a schema", &put).await?.inserted > 0)
    }
}
