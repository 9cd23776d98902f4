//! Images, and the space the engine uses.

use std::collections::BTreeMap;

use bollard::query_parameters::ListImagesOptions;
use serde::Serialize;
use serde_json::Value;

use super::engine::{Docker, QUICK, failed, within};
use crate::error::Result;
use crate::host::Access;

/// An image.
#[derive(Debug, Serialize)]
pub(super) struct Image {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    size: i64,
    created: Option<String>,
    used_by: Vec<String>,
}

/// The space one sort of thing uses.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Used {
    count: i64,
    active: i64,
    size: i64,
    reclaimable: i64,
}

/// The space the engine uses.
#[derive(Debug, Serialize)]
pub(super) struct Space {
    images: Used,
    containers: Used,
    volumes: Used,
    build_cache: Used,
    size: i64,
    reclaimable: i64,
}

impl Docker {
    /// Every image, with the containers made of it.
    pub(super) async fn images(&self) -> Result<Vec<Image>> {
        self.ctx.permissions().check(&Access::word("docker", "images", "*"))?;
        let client = self.client().await?;
        let listed = within(QUICK, "the docker engine", async {
            client.list_images(None::<ListImagesOptions>).await.map_err(|error| failed("listing images", error))
        });
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in self.list().await? {
            users.entry(container.image_id).or_default().push(container.name);
        }
        let image = |image: bollard::models::ImageSummary| Image {
            used_by: users.get(&image.id).cloned().unwrap_or_default(),
            id: image.id,
            // An image that lost its name to a newer one has this for a tag.
            tags: image.repo_tags.into_iter().filter(|tag| tag != "<none>:<none>").collect(),
            digests: image.repo_digests.into_iter().filter(|digest| digest != "<none>@<none>").collect(),
            size: image.size,
            created: jiff::Timestamp::from_second(image.created).ok().map(|time| time.to_string()),
        };
        Ok(listed.await?.into_iter().map(image).collect())
    }

    /// The space the engine uses.
    pub(super) async fn disk(&self) -> Result<Space> {
        self.ctx.permissions().check(&Access::word("docker", "disk", "*"))?;
        Ok(space(&self.usage().await?))
    }
}

/// Engines up to API 1.51 list the things themselves; newer ones add them up.
fn space(usage: &Value) -> Space {
    let newer = |name: &str, old: fn(&Value) -> Used| usage.get(name).filter(|sum| sum.is_object()).map_or_else(|| old(usage), summed);
    let images = newer("ImageUsage", images);
    let containers = newer("ContainerUsage", containers);
    let volumes = newer("VolumeUsage", volumes);
    let build_cache = newer("BuildCacheUsage", build_cache);
    let all = [&images, &containers, &volumes, &build_cache];
    let (size, reclaimable) = (all.iter().map(|used| used.size).sum(), all.iter().map(|used| used.reclaimable).sum());
    Space { images, containers, volumes, build_cache, size, reclaimable }
}

fn summed(sum: &Value) -> Used {
    let number = |name: &str| sum[name].as_i64().unwrap_or(0);
    Used { count: number("TotalCount"), active: number("ActiveCount"), size: number("TotalSize"), reclaimable: number("Reclaimable") }
}

/// Adds up a list as `docker system df` does.
fn add_up(list: &Value, active: impl Fn(&Value) -> bool, size: impl Fn(&Value) -> i64) -> Used {
    let mut used = Used::default();
    for item in list.as_array().into_iter().flatten() {
        // -1 stands for a size that is not known.
        let size = size(item).max(0);
        used.count += 1;
        used.size += size;
        if active(item) {
            used.active += 1;
        } else {
            used.reclaimable += size;
        }
    }
    used
}

fn images(usage: &Value) -> Used {
    let own = |image: &Value| image["Size"].as_i64().unwrap_or(0) - image["SharedSize"].as_i64().unwrap_or(0).max(0);
    let in_use = |image: &Value| image["Containers"].as_i64().unwrap_or(0) != 0;
    let mut used = add_up(&usage["Images"], in_use, own);
    // Layers are shared between images, so the sum of the images is not what is used.
    let taken: i64 = usage["Images"].as_array().into_iter().flatten().filter(|image| in_use(image)).map(own).sum();
    used.size = usage["LayersSize"].as_i64().unwrap_or(used.size);
    used.reclaimable = (used.size - taken).max(0);
    used
}

fn containers(usage: &Value) -> Used {
    let active = |container: &Value| matches!(container["State"].as_str(), Some("running" | "paused" | "restarting"));
    add_up(&usage["Containers"], active, |container| container["SizeRw"].as_i64().unwrap_or(0))
}

fn volumes(usage: &Value) -> Used {
    let active = |volume: &Value| volume["UsageData"]["RefCount"].as_i64().unwrap_or(0) > 0;
    add_up(&usage["Volumes"], active, |volume| volume["UsageData"]["Size"].as_i64().unwrap_or(0))
}

fn build_cache(usage: &Value) -> Used {
    let active = |entry: &Value| entry["InUse"].as_bool().unwrap_or(false);
    let own = |entry: &Value| if entry["Shared"].as_bool().unwrap_or(false) { 0 } else { entry["Size"].as_i64().unwrap_or(0) };
    add_up(&usage["BuildCache"], active, own)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn older_and_newer_engines_tell_the_same() {
        let older = json!({
            "LayersSize": 1000,
            "Images": [{ "Size": 600, "SharedSize": 0, "Containers": 1 }, { "Size": 400, "SharedSize": 0, "Containers": 0 }],
            "Containers": [{ "State": "running", "SizeRw": 5 }, { "State": "exited", "SizeRw": 7 }],
            "Volumes": [{ "UsageData": { "Size": 50, "RefCount": 0 } }],
            "BuildCache": null,
        });
        let newer = json!({
            "ImageUsage": { "TotalCount": 2, "ActiveCount": 1, "TotalSize": 1000, "Reclaimable": 400 },
            "ContainerUsage": { "TotalCount": 2, "ActiveCount": 1, "TotalSize": 12, "Reclaimable": 7 },
            "VolumeUsage": { "TotalCount": 1, "ActiveCount": 0, "TotalSize": 50, "Reclaimable": 50 },
        });
        let [older, newer] = [space(&older), space(&newer)];
        assert_eq!(older.images, Used { count: 2, active: 1, size: 1000, reclaimable: 400 });
        assert_eq!((&older.images, &older.containers, &older.volumes), (&newer.images, &newer.containers, &newer.volumes));
        assert_eq!((older.size, older.reclaimable), (1062, 457));
    }
}
