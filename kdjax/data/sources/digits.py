"""The 1,797 handwritten digits that scikit-learn ships, 8x8 pixels."""

import numpy as np

from kdjax.data.split import Split

#: Test images; the other 1,000 train. A fixed, stratified split.
_TEST_IMAGES = 797


def load() -> dict[str, Split]:
    """Loads the digits as 8x8 RGB images with equal channels.

    Returns:
      Splits "train" (1,000 images) and "test" (797), stratified.
    """
    from sklearn import datasets, model_selection  # Slow to import.

    image, label = datasets.load_digits(return_X_y=True)
    # 17 gray levels from 0 to 16.
    image = np.rint(image.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    image = np.repeat(image, 3, axis=-1)
    train, test = model_selection.train_test_split(
        np.arange(len(label)), test_size=_TEST_IMAGES, stratify=label, random_state=0
    )
    return {
        name: Split(image[chosen], label[chosen].astype(np.int32))
        for name, chosen in (("train", np.sort(train)), ("test", np.sort(test)))
    }
