"""Data sets, loaders and transforms of batches.

>>> from tinygrad_cnn.data import Compose, DataLoader, ExpandDims, MNISTMini, ToFloat
>>> loader = DataLoader(MNISTMini(), 64, shuffle=True, transform=Compose(ToFloat(), ExpandDims(1)))
>>> images, labels = next(iter(loader))
>>> images.shape, labels.shape
((64, 1, 28, 28), (64,))
"""

from __future__ import annotations

from .augment import (
    ImageAugmentation,
    RandomCrop,
    RandomHorizontalFlip,
    affine_matrices,
    multi_crop,
)
from .cache import user_cache_dir
from .cifar import CIFAR10JPEG
from .class_subset import ClassSubset, class_subsets
from .datasets import DATASETS, MNIST, FashionMNIST, MNISTMini, load_dataset
from .enlarge import Enlarged
from .idx import read_idx, write_idx
from .image_dataset import ImageDataset
from .image_folder import ImageFolder
from .keys import Keys, RandomTransform, Transform
from .loader import DataLoader, default_collate
from .samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .tensor_dataset import Dataset, Subset, TensorDataset, random_split
from .transforms import Compose, ExpandDims, Normalize, OneHot, Pad, ToFloat
from .warp import affine_warp

__all__ = [
    "CIFAR10JPEG",
    "DATASETS",
    "MNIST",
    "BatchSampler",
    "ClassSubset",
    "Compose",
    "DataLoader",
    "Dataset",
    "Enlarged",
    "ExpandDims",
    "FashionMNIST",
    "ImageAugmentation",
    "ImageDataset",
    "ImageFolder",
    "Keys",
    "MNISTMini",
    "Normalize",
    "OneHot",
    "Pad",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomSampler",
    "RandomTransform",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "ToFloat",
    "Transform",
    "WeightedRandomSampler",
    "affine_matrices",
    "affine_warp",
    "class_subsets",
    "default_collate",
    "load_dataset",
    "multi_crop",
    "random_split",
    "read_idx",
    "user_cache_dir",
    "write_idx",
]
