"""What the documents say is what was measured."""

import importlib.util
import pathlib

import pytest

DOCS = pathlib.Path(__file__).parent.parent / 'docs'


@pytest.fixture
def script():
  spec = importlib.util.spec_from_file_location('results', DOCS / 'results.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_results_are_those_of_the_reports(script):
  assert script.RESULTS.read_text() == script.render()


def test_a_report_is_read_by_data_set_heading_row_and_column(script):
  report = script.read(
    '# Comparison\n\n## faces\n\n'
    '| model | mse | psnr |\n| :--- | ---: | ---: |\n'
    '| blurred input | 1,250.5 [9 to 11] | 20.00 [19.00 to 21.00] |\n'
    '| cnn | 10.0 [9 to 11] | 21.50 [19.00 to 21.00] |\n\n'
    '### Difference to the blurred input\n\n'
    '| model | psnr |\n| :--- | ---: |\n| cnn | **+1.50 [1.00 to 2.00]** |\n'
  )
  assert report.score('faces', 'blurred input', 'mse') == 1250.5
  assert report.gain('faces', 'cnn') == 1.5
  difference = 'faces', 'Difference to the blurred input'
  assert report.table(*difference).splitlines()[-1].endswith('2.00]** |')
  assert report.score('faces', 'cnn', 'psnr', difference[1]) == 1.5
  kept = report.table('faces', columns=['psnr']).splitlines()
  assert kept[0].split() == ['|', 'model', '|', 'psnr', '|']
