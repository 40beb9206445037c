# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""python -m seg_uncertainty_ros.cli."""

import sys

from seg_uncertainty_ros.cli import main

sys.exit(main())
