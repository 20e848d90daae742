//! Kubernetes: an AdmissionReview is read for the images that it would run, and answered with a decision.
