"""Folders of images, CIFAR-10 and ImageNet 64."""
