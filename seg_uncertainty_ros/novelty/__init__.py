# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How novel a frame is to a variational autoencoder of known drives; an optional second graph."""
