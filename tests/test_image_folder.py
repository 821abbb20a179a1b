"""Images in folders and zips: order, pixels, splits, the cache, and what is said of a bad one."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from volume_lib import InputError, get_problem, load_models_and_data, make_dataset, train_models
from volume_lib.problems import image_folder


@pytest.fixture
def photos(tmp_path):
    """Pixels by name, in a folder ``photos``: two classes, split already."""
    pixels, generator = {}, np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for kind in ("cat", "ant"):
            for i in range(count):
                name = f"{split}/{kind}/{i}.png"
                pixels[name] = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                path = tmp_path / "photos" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[name]).save(path)
    return pixels


def expected(pixels, names):
    images = np.stack([pixels[name] for name in names]).transpose(0, 3, 1, 2)
    return torch.from_numpy((images / 255 - 0.5) / 0.25).float()


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_images_come_in_order_with_their_pixels(form, photos, tmp_path):
    path = "photos"
    if form == "zip":
        path = "photos.zip"
        with zipfile.ZipFile(tmp_path / path, "w") as archive:
            for name in reversed(photos):
                archive.write(tmp_path / "photos" / name, name)
    problem = get_problem({"name": "image_folder", "path": str(tmp_path / path), "size": 4, "std": 0.25})
    assert problem.class_names == ("ant", "cat") and problem.num_classes == 2
    data = problem.load(tmp_path)
    names = [f"train/{kind}/{i}.png" for kind in ("ant", "cat") for i in range(3)]
    torch.testing.assert_close(data.x_train, expected(photos, names))
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1] and data.y_test.tolist() == [0, 0, 1, 1]
    model = problem.build_model({"hidden_dims": [3]}, 0)
    assert model(data.x_test).shape == (4, 2)
    assert get_problem(problem.name).load(tmp_path).x_train.equal(data.x_train)  # its name leads back to it


def test_the_second_time_nothing_is_decoded_until_an_image_changes(photos, tmp_path, monkeypatch):
    problem = get_problem({"name": "image_folder", "path": "photos", "size": 4})
    first = problem.load(tmp_path)
    assert list((tmp_path / image_folder.CACHE).glob("*.npy"))
    with monkeypatch.context() as patch:
        patch.setattr(image_folder.ImageFolder, "_decode", lambda *_: pytest.fail("decoded again"))
        assert problem.load(tmp_path).x_train.equal(first.x_train)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "photos/train/ant/0.png")
    assert not problem.load(tmp_path).x_train.equal(first.x_train)


def test_classes_without_a_split_give_their_share(photos, tmp_path):
    problem = image_folder.ImageFolder(
        str(tmp_path / "photos" / "train"), size=2, channels=1, test_share=0.34
    )
    data = problem.load(tmp_path)
    assert data.x_train.shape == (4, 1, 2, 2) and data.y_test.tolist() == [0, 1]


def test_what_is_wrong_is_named(photos, tmp_path):
    (tmp_path / "photos/train/cat/9.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"train/cat/9.png cannot be read as an image"):
        image_folder.ImageFolder(str(tmp_path / "photos")).load(tmp_path)
    with pytest.raises(InputError, match="path nowhere: neither in"):
        image_folder.ImageFolder("nowhere").load(tmp_path)
    with pytest.raises(InputError, match=r"no argument sise.*size"):
        get_problem({"name": "image_folder", "path": "photos", "sise": 3})
    with pytest.raises(InputError, match="path"):
        get_problem("image_folder")


def test_a_run_on_images_is_found_again_by_the_name_in_its_files(photos, tmp_path, monkeypatch):
    """What the notebook of the rays does after that of the training, without a word on the problem."""
    monkeypatch.setenv("VOLUME_LIB_DATA", str(tmp_path))
    problem = get_problem({"name": "image_folder", "path": "photos", "size": 4, "std": [0.25, 0.5, 0.25]})
    dataset = make_dataset(problem, base_data_size=4, dataset_quantities=[0, 2], data_seed=0)
    trained = train_models(
        problem, dataset, folder=tmp_path / "run", model={"hidden_dims": [3]}, model_seed=0, epochs=1,
        batch_size=4,
    )  # fmt: skip
    models, again = load_models_and_data(tmp_path / "run")
    assert again.x_additional.equal(dataset.x_additional) and again.problem == problem.name
    for before, after in zip(trained, models, strict=True):
        assert after.model(again.x_test).equal(before.model(dataset.x_test))
